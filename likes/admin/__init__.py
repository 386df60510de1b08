"""The admin: posts with their live totals, and the books to look at. It counts nothing itself and knows no key."""

from django.contrib import admin

from likes.admin import books, posts

__all__ = ["books", "posts"]

admin.site.site_header = admin.site.site_title = "likesite"
