"""Django: ``path("fairchild/", include("fairchild.contrib.django.urls"))``."""
