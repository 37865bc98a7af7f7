"""The pages and the API inside a Django site: ``path("fairchild/", include("fairchild.contrib.django.urls"))``."""

from __future__ import annotations

from django.urls import path

from fairchild.contrib.django.views import mounted

app_name = "fairchild"
urlpatterns = [
    path("", mounted, {"rest": ""}, name="index"),
    path("<path:rest>", mounted, name="page"),
]
