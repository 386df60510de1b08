"""What PostgreSQL keeps: posts with their totals, and the books that prove them. Knows nothing of Redis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.validators import ProhibitNullCharactersValidator
from django.db import models
from django.db.models.functions import Now


class Post(models.Model):
    """Something people like; `likes` is the persisted total, the live one is in `likes.counts`."""

    # No index may name `likes`: a flush would then write every index of the row too, instead of a heap-only update.

    title = models.CharField(max_length=200, validators=[ProhibitNullCharactersValidator()])
    likes = models.BigIntegerField(default=0, editable=False, help_text="persisted likes")
    starting_likes = models.BigIntegerField(
        default=0, editable=False, help_text="likes the row was inserted with; a trigger sets it"
    )
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(likes__gte=0), name="likes_never_negative")]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        """Save everything but the totals: a form loaded before a flush must not put the old total back.

        A new instance is inserted: under the id of a post that exists, Django would overwrite all of its columns.
        """
        if self._state.adding and self.pk is not None and not args:
            kwargs["force_insert"] = True
        if not self._state.adding:
            names = {field.name for field in self._meta.concrete_fields if not field.primary_key}
            chosen = names if update_fields is None else set(update_fields)
            update_fields = chosen - {"likes", "starting_likes"}
        super().save(*args, update_fields=update_fields, **kwargs)


class Batch(models.Model):
    """The ledger: one row for each batch that was drained and applied; its id makes a second apply harmless."""

    class Kind(models.TextChoices):
        LIKE = "like", "likes"

    id = models.UUIDField(primary_key=True)
    shard = models.SmallIntegerField()
    epoch = models.UUIDField()
    kind = models.CharField(max_length=16, choices=Kind)
    likes = models.BigIntegerField(help_text="likes as drained")
    posts = models.BigIntegerField(help_text="counters moved")
    drained_at = models.DateTimeField(help_text="by the clock of Redis")
    applied_at = models.DateTimeField(db_default=Now())
    folded = models.IntegerField(default=0, help_text="how many batches this row stands for; 0: itself")

    class Meta:
        verbose_name_plural = "batches"
        indexes = [
            models.Index("shard", "drained_at", name="batch_by_age"),
            models.Index("drained_at", name="batch_newest"),  # the admin's list
        ]

    def __str__(self) -> str:
        return str(self.id)


class Adjustment(models.Model):
    """A change of a total that is not a like; settled once Redis has dropped what it knew of the post."""

    class Kind(models.TextChoices):
        RESET = "reset", "reset"
        DELETE = "delete", "delete"

    post_id = models.BigIntegerField()
    kind = models.CharField(max_length=16, choices=Kind)
    likes = models.BigIntegerField(help_text="what the total changed by")
    starting_likes = models.BigIntegerField(db_default=0, help_text="of a deleted post")
    by = models.CharField(max_length=200, db_default="")
    created_at = models.DateTimeField(db_default=Now())
    settled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index("id", name="adjustment_unsettled", condition=models.Q(settled_at=None)),
            models.Index("post_id", name="adjustment_by_post"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of post {self.post_id}: {self.likes:+d}"


class MovedLikes(models.Model):
    """Likes of a batch that could not be added to a post, kept for a person to look at."""

    batch = models.UUIDField()
    post_id = models.BigIntegerField()
    likes = models.BigIntegerField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.likes} of post {self.post_id}"


class OrphanedLikes(MovedLikes):
    """Likes of posts that were gone when their batch was applied."""

    class Meta:
        verbose_name_plural = "orphaned likes"


class QuarantinedLikes(MovedLikes):
    """Likes whose row PostgreSQL refused with a data error, five times over."""

    error = models.TextField()

    class Meta:
        verbose_name_plural = "quarantined likes"


class ShardEpoch(models.Model):
    """One life of a shard's counters in Redis, with the running sums of what came out of it.

    Redis knows the living one; the others are closed, and what they lack was lost with their Redis.
    """

    shard = models.SmallIntegerField()
    epoch = models.UUIDField()
    accepted = models.BigIntegerField(help_text="likes Redis had accepted at the last drain")
    likes = models.BigIntegerField(help_text="likes drained and applied")
    posts = models.BigIntegerField(help_text="counters moved")
    batches = models.BigIntegerField()
    milliseconds = models.FloatField(help_text="spent applying")
    last_at = models.DateTimeField(help_text="of the last drain, by the clock of Redis")
    noted_at = models.DateTimeField(null=True, help_text="when an operator took note of what a closed epoch lost")

    class Meta:
        constraints = [models.UniqueConstraint("shard", "epoch", name="one_row_per_epoch")]

    def __str__(self) -> str:
        return f"shard {self.shard}: {self.epoch}"

    @property
    def shortfall(self) -> int:
        """Accepted likes that never arrived, at least: likes after the last drain are known to nobody."""
        return self.accepted - self.likes


class ShardState(models.Model):
    """How far the ledger of a shard has been folded: a batch drained at or before that may not be applied."""

    shard = models.SmallIntegerField(primary_key=True)
    folded_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"shard {self.shard}"


class Deployment(models.Model):
    """The one row that says how this deployment shards: a start with other values would count beside the truth."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    shards = models.SmallIntegerField()
    prefix = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_deployment")]

    def __str__(self) -> str:
        return f"{self.prefix}, {self.shards} shards"
