/*
 * Import of an upstream root: the order of things. See import.h.
 *
 * Theory of operation, all under locks/meta.lock:
 *
 *      read        sources are read into memory under their own locks, with their digests
 *      I1          the manifest meta/import.manifest says what will be put aside, and an id
 *      I2          our store holds everything, and that id: this one rename or commit decides
 *      I3 (each)   the sources are renamed
 *      I4          the manifest is gone
 *
 * Killed before I2, the store does not know the id: the manifest is void and all starts over.
 * Killed after it, only the renames are left to do. A store of ours that is there already must be
 * empty and is written in one transaction; otherwise a complete one is built beside and renamed
 * into place, so that no empty store is ever seen beside records. When the source is itself called
 * meta.db, the two files change places.
 */
#include "meta/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/json.h"
#include "base/sys.h"
#include "base/timeutil.h"
#include "meta/import_internal.h"

#define MANIFEST_MAX (1 << 20)

void meta_import_report_clear(struct meta_import_report *r)
{
        cc_strv_free(&r->sources);
        cc_strv_free(&r->renamed);
        cc_strv_free(&r->notes);
        *r = (struct meta_import_report){ 0 };
}

void import_clear(struct import *im)
{
        for (size_t i = 0; i < im->n; i++) {
                free(im->v[i].key);
                json_decref(im->v[i].data);
        }
        for (size_t i = 0; i < im->n_sources; i++)
                free(im->sources[i].path);
        for (size_t i = 0; i < im->n_locks; i++)
                close(im->locks[i]);
        free(im->v);
        free(im->sources);
        free(im->locks);
        *im = (struct import){ 0 };
}

int import_add(struct import *im, enum import_kind kind, const char *driver, const char *key,
               json_t *data, struct cc_err *err)
{
        if (!json_is_object(data)) {
                json_decref(data);
                return cc_fail(err, CC_INVALID, "record %s is no object", key);
        }
        if (im->n == im->cap) {
                im->cap = im->cap ? im->cap * 2 : 64;
                im->v = xreallocarray(im->v, im->cap, sizeof(*im->v));
        }
        im->v[im->n++] = (struct import_row){
                .kind = kind, .driver = driver, .key = xstrdup(key), .data = data
        };
        return 0;
}

int import_source(struct import *im, const char *path, struct cc_err *err)
{
        struct import_source *s;
        char sha256[65];
        int r = im->args->digest(path, sha256, err);

        if (r < 0)
                return r;
        im->sources = xreallocarray(im->sources, im->n_sources + 1, sizeof(*im->sources));
        s = &im->sources[im->n_sources++];
        s->path = xstrdup(path);
        memcpy(s->sha256, sha256, sizeof(sha256));
        cc_strv_add(&im->report->sources, path);
        return 0;
}

/* ---- the manifest ---- */

static char *manifest_path(const struct meta *m)
{
        return cc_path_join(m->dir, "import.manifest");
}

/* The upstream store that stands where ours belongs changes places with the one built beside it. */
static char *built_path(const struct meta *m)
{
        return xasprintf("%s.new", m->path);
}

static int write_manifest(const struct import *im, const struct meta *m, const char *id,
                          struct cc_err *err)
{
        CC_FREE char *path = manifest_path(m);
        CC_FREE char *built = built_path(m);
        CC_FREE char *text = NULL;
        CC_JSON json_t *doc = json_object();
        json_t *sources = json_array();
        char utc[24];
        time_t now = (time_t)(cc_now() / CC_NSEC_PER_SEC);
        struct tm tm;

        if (!gmtime_r(&now, &tm) || strftime(utc, sizeof(utc), "%Y%m%dT%H%M%SZ", &tm) == 0)
                return cc_fail(err, CC_INTERNAL, "the clock tells no time");
        for (size_t i = 0; i < im->n_sources; i++) {
                const struct import_source *s = &im->sources[i];
                CC_FREE char *aside = xasprintf("%s.converted-%s", s->path, utc);

                json_array_append_new(sources,
                                      json_pack("{s:s, s:s, s:s}", "path",
                                                strcmp(s->path, m->path) == 0 ? built : s->path,
                                                "aside", aside, "sha256", s->sha256));
        }
        json_object_set_new(doc, "version", json_integer(1));
        json_object_set_new(doc, "id", json_string(id));
        json_object_set_new(doc, "sources", sources);
        json_object_set_new(doc, "records", json_integer((json_int_t)im->n));
        text = cc_json_pretty(doc);
        return cc_publish(path, text, strlen(text), 0600, err);
}

/* 0 with *ret, or -CC_NOT_FOUND without text. */
static int read_manifest(const struct meta *m, json_t **ret, struct cc_err *err)
{
        CC_FREE char *path = manifest_path(m);
        CC_FREE char *text = NULL;
        size_t n;
        int r;

        if (!cc_exists(path))
                return -CC_NOT_FOUND;
        r = cc_read_file(path, MANIFEST_MAX, &text, &n, err);
        return r < 0 ? r : cc_json_parse(text, n, path, ret, err);
}

/* ---- putting the sources aside ---- */

static int put_aside(const struct meta_import_args *args, const json_t *source, struct cc_err *err)
{
        const char *path = NULL;
        const char *aside = NULL;
        const char *sha256 = NULL;
        char now[65];
        int r = cc_json_str(source, "path", &path, err);

        if (r == 0)
                r = cc_json_str(source, "aside", &aside, err);
        if (r == 0)
                r = cc_json_str(source, "sha256", &sha256, err);
        if (r < 0)
                return r;
        if (!path || !aside || !sha256)
                return cc_fail(err, CC_INVALID, "the import's manifest is incomplete");
        if (!cc_exists(path))
                return 0;
        r = args->digest(path, now, err);
        if (r == 0 && strcmp(now, sha256) != 0)
                r = cc_fail(err, CC_CONFLICT,
                            "%s changed after it was imported: is the older program still in use?",
                            path);
        if (r == 0)
                r = cc_publish_file(path, aside, true, err);
        return r < 0 ? r : cc_failpoint("meta_import.I3", err);
}

static int finish(const struct meta_import_args *args, const struct meta *m, const json_t *manifest,
                  struct cc_err *err)
{
        CC_FREE char *path = manifest_path(m);
        const json_t *sources = json_object_get(manifest, "sources");
        const json_t *source;
        size_t i;
        int r = 0;

        json_array_foreach (sources, i, source) {
                if (r == 0)
                        r = put_aside(args, source, err);
        }
        if (r == 0)
                r = cc_unlink(path, err);
        if (r == 0)
                r = cc_fsync_dir(m->dir, err);
        return r < 0 ? r : cc_failpoint("meta_import.I4", err);
}

/* ---- our side ---- */

static int count(struct meta *m, const char *sql, int64_t *ret, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, sql, &s, err);

        if (r == 0)
                r = meta_step(m, s, err);
        if (r > 0)
                *ret = sqlite3_column_int64(s, 0);
        return r < 0 ? r : 0;
}

static int check_empty(struct meta *m, struct cc_err *err)
{
        int64_t n = 0;
        int r = count(m,
                      "SELECT (SELECT count(*) FROM vms) + (SELECT count(*) FROM snapshots) + "
                      "(SELECT count(*) FROM networks) + (SELECT count(*) FROM image_refs) + "
                      "(SELECT count(*) FROM tombstones)",
                      &n, err);

        if (r == 0 && n)
                r = cc_fail(err, CC_CONFLICT,
                            "the store %s holds %lld records already: only an empty one can take "
                            "an import",
                            m->path, (long long)n);
        return r;
}

static int fill(struct import *im, struct meta *m, const char *id, struct cc_err *err)
{
        int r = meta_begin(m, META_DURABLE, err);

        if (r == 0)
                r = check_empty(m, err);
        if (r == 0)
                r = import_write(im, m, id, err);
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        return meta_commit(m, err);
}

/* A complete store in the file `path`, with nothing beside it. */
static int build(struct import *im, const struct meta_open_args *args, const char *path,
                 const char *id, struct cc_err *err)
{
        META struct meta *m = meta_new(args);
        int version = META_VERSION;
        int r;

        if (meta_is_upstream_db(path)) /* changed places, and then the manifest was lost */
                return cc_fail(err, CC_STATE, "%s is the older store: move it away", path);
        r = meta_build(path, err);
        free(m->path);
        m->path = xstrdup(path);
        if (r == 0)
                r = meta_connect(m, &version, err);
        if (r == 0)
                r = cc_fail(err, CC_INTERNAL, "the new store %s is not usable", path);
        if (r > 0)
                r = fill(im, m, id, err);
        if (r < 0)
                return r;
        (void)sqlite3_db_config(m->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
        meta_checkpoint(m, true);
        return 0;
}

/* The file built beside takes its place. */
static int publish(const struct import *im, struct meta *m, const char *built, struct cc_err *err)
{
        bool exchange = false;

        for (size_t i = 0; i < im->n_sources; i++)
                exchange |= strcmp(im->sources[i].path, m->path) == 0;
        if (!exchange) {
                int r = meta_remove_db(m->path, err); /* debris without records (meta_connect) */

                return r < 0 ? r : cc_publish_file(built, m->path, true, err);
        }
        if (cc_sys.renameat2(AT_FDCWD, built, AT_FDCWD, m->path, RENAME_EXCHANGE) < 0)
                return cc_fail_errno(err, errno, "exchange %s with %s", built, m->path);
        return cc_fsync_dir(m->dir, err);
}

/* What our store says: *ret_have it is there; *ret_id the import that filled it, "". An upstream
 * store in its place counts as none. */
static int look(struct meta *m, bool *ret_have, char ret_id[64], struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int version = META_VERSION;
        int r = 0;

        *ret_have = false;
        *ret_id = '\0';
        if (meta_is_upstream_db(m->path))
                return 0;
        r = meta_connect(m, &version, err);
        if (r <= 0) {
                meta_db_close(m);
                return r;
        }
        *ret_have = true;
        if (version != META_VERSION)
                return cc_fail(err, CC_SCHEMA, "the store %s is of another version", m->path);
        r = meta_prepare(m, "SELECT v FROM meta_kv WHERE k = 'imported_from'", &s, err);
        if (r == 0)
                r = meta_step(m, s, err);
        if (r > 0)
                (void)snprintf(ret_id, 64, "%s", meta_text(s, 0));
        return r < 0 ? r : 0;
}

static int build_and_publish(struct import *im, struct meta *m, const struct meta_open_args *args,
                             const char *id, struct cc_err *err)
{
        CC_FREE char *built = built_path(m);
        int r = build(im, args, built, id, err);

        if (r == 0)
                r = publish(im, m, built, err);
        if (r < 0 && !meta_is_upstream_db(built))
                (void)meta_remove_db(built, NULL);
        return r;
}

/* After a failure: is the store as it was? Then nothing of the attempt stays. */
static void undo(struct meta *m, const char *id)
{
        CC_FREE char *path = manifest_path(m);
        bool have = false;
        char done[64] = "";

        meta_db_close(m);
        if (look(m, &have, done, NULL) == 0 && strcmp(done, id) != 0)
                (void)cc_unlink(path, NULL);
}

/* ---- the whole ---- */

static int read_sources(struct import *im, struct cc_err *err)
{
        int r = import_read_json(im, err);

        if (r == 0)
                r = import_read_sqlite(im, err);
        if (r == 0 && im->n_sources == 0)
                r = cc_fail(err, CC_NOT_FOUND, "no records of an older installation below %s",
                            im->args->root_dir);
        return r < 0 ? r : import_settle_names(im, err);
}

static int start_over(struct import *im, struct meta *m, bool have,
                      const struct meta_open_args *args, struct cc_err *err)
{
        CC_JSON json_t *manifest = NULL;
        char id[37];
        int r = have ? check_empty(m, err) : 0;

        if (r == 0)
                r = read_sources(im, err);
        if (r < 0)
                return r;
        cc_uuid_new(id);
        r = write_manifest(im, m, id, err);
        if (r == 0)
                r = cc_failpoint("meta_import.I1", err);
        if (r == 0)
                r = have ? fill(im, m, id, err) : build_and_publish(im, m, args, id, err);
        if (r < 0) {
                undo(m, id);
                return r;
        }
        r = cc_failpoint("meta_import.I2", err);
        if (r == 0)
                r = read_manifest(m, &manifest, err);
        return r < 0 ? r : finish(im->args, m, manifest, err);
}

static int run(struct import *im, struct meta *m, const struct meta_open_args *args,
               struct cc_err *err)
{
        CC_JSON json_t *manifest = NULL;
        const char *planned = "";
        char done[64];
        bool have = false;
        int r = look(m, &have, done, err);

        if (r == 0)
                r = read_manifest(m, &manifest, err);
        if (r == 0)
                r = cc_json_str(manifest, "id", &planned, err);
        if (r < 0 && r != -CC_NOT_FOUND)
                return r;
        if (!manifest || !*planned || strcmp(planned, done) != 0)
                return start_over(im, m, have, args, err);
        im->report->resumed = true;
        return finish(im->args, m, manifest, err);
}

int meta_import(const struct meta_import_args *args, struct meta_import_report *ret,
                struct cc_err *err)
{
        const struct meta_open_args open_args = { .root_dir = args->root_dir,
                                                  .run_dir = args->run_dir };
        CC_FREE char *lock_path = cc_path_join(args->root_dir, "locks/meta.lock");
        CC_FREE char *locks = cc_path_join(args->root_dir, "locks");
        META_IMPORT_REPORT struct meta_import_report report = { 0 };
        CC_CLEANUP(import_clear) struct import im = { .args = args, .report = &report };
        META struct meta *m = meta_new(&open_args);
        CC_CLOSE int lock = -1;
        int r = 0;

        if (!cc_exists(args->root_dir))
                return cc_fail(err, CC_NOT_FOUND, "there is no root directory %s", args->root_dir);
        r = cc_mkdir_p(m->dir, 0700, err);
        if (r == 0)
                r = cc_mkdir_p(locks, 0750, err);
        if (r == 0)
                r = cc_lock_try(lock_path, CC_LOCK_EXCLUSIVE, "meta.import", &lock, err);
        if (r < 0)
                return r;
        r = run(&im, m, &open_args, err);
        if (r < 0)
                return r;
        *ret = report;
        report = (struct meta_import_report){ 0 };
        return 0;
}
