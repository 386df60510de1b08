"""What the database itself keeps true: starting totals, the archive of deletes, room for heap-only updates."""

from django.db import migrations

STARTING_LIKES = """
CREATE FUNCTION likes_post_starting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.starting_likes := NEW.likes;
    RETURN NEW;
END $$;
CREATE TRIGGER likes_post_starting BEFORE INSERT ON likes_post
    FOR EACH ROW EXECUTE FUNCTION likes_post_starting();
"""

# A trigger and not Post.delete(): it also sees the admin's bulk delete, a cascade, and SQL typed by hand.
ARCHIVE_DELETES = """
CREATE FUNCTION likes_post_archive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO likes_adjustment (post_id, kind, likes, starting_likes)
        VALUES (OLD.id, 'delete', -OLD.likes, OLD.starting_likes);
    RETURN OLD;
END $$;
CREATE TRIGGER likes_post_archive AFTER DELETE ON likes_post
    FOR EACH ROW EXECUTE FUNCTION likes_post_archive();
"""

# Percent of a page that inserts fill; the rest is where a flush puts a row's next version without touching an index.
FILLFACTOR = "ALTER TABLE likes_post SET (fillfactor = 80);"


class Migration(migrations.Migration):
    dependencies = [("likes", "0001_initial")]
    operations = [
        migrations.RunSQL(
            STARTING_LIKES,
            "DROP TRIGGER likes_post_starting ON likes_post; DROP FUNCTION likes_post_starting();",
        ),
        migrations.RunSQL(
            ARCHIVE_DELETES,
            "DROP TRIGGER likes_post_archive ON likes_post; DROP FUNCTION likes_post_archive();",
        ),
        migrations.RunSQL(FILLFACTOR, "ALTER TABLE likes_post RESET (fillfactor);"),
    ]
