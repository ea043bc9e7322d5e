/*
 * Image records in the store: the public view, the one resolver of every verb (cli.md §3, images.md
 * §5), list and rm. Files of an image are in files.c.
 */
#include <string.h>

#include "base/alloc.h"
#include "image/image.h"

/* clang-format off */
static const struct field view_fields[] = {
        { "id", FIELD_STR, offsetof(struct image_view, id), FIELD_ALWAYS, NULL },
        { "name", FIELD_STR, offsetof(struct image_view, name), FIELD_ALWAYS, NULL },
        { "type", FIELD_STR, offsetof(struct image_view, type), FIELD_ALWAYS, NULL },
        { "size", FIELD_INT, offsetof(struct image_view, size), FIELD_ALWAYS, NULL },
        { "created_at", FIELD_TIME, offsetof(struct image_view, created_at), FIELD_ALWAYS, NULL },
};
/* clang-format on */

const struct record_type image_view_type = {
        .what = "image",
        .size = sizeof(struct image_view),
        .extra = SIZE_MAX,
        .fields = view_fields,
        .n = CC_ARRAY_LEN(view_fields),
};

static const char *const kinds[] = { IMAGE_OCI, IMAGE_CLOUDIMG };

/* How a reference matched, best first: ranks are compared over both kinds together. */
enum rank { RANK_EXACT, RANK_NORMALISED, RANK_DIGEST, RANK_NONE };

struct match {
        char *kind;
        struct image_record image;
};

struct search {
        const char *ref;
        char *normalised; /* NULL: not an OCI reference */
        const char *hex;  /* digits of a digest or of a prefix of one, or NULL */
        enum rank best;
        struct match *matches;
        size_t n;
        struct cc_strv refs; /* of everything seen, for the hint */
};

static const char *record_digest(const struct image_record *image)
{
        return image->manifest_digest ? image->manifest_digest : image->content_sum;
}

static const char *digest_hex(const char *digest)
{
        return digest && cc_startswith(digest, "sha256:") ? digest + 7 : digest;
}

static char *normalise(const char *ref)
{
        struct image_name name = { 0 };
        char *text;

        if (image_name_parse(ref, &name, NULL) < 0)
                return NULL;
        text = image_name_normalise(&name);
        image_name_clear(&name);
        return text;
}

static void search_drop(struct search *s)
{
        for (size_t i = 0; i < s->n; i++) {
                free(s->matches[i].kind);
                image_record_clear(&s->matches[i].image);
        }
        free(s->matches);
        s->matches = NULL;
        s->n = 0;
}

static void search_free(struct search *s)
{
        search_drop(s);
        free(s->normalised);
        cc_strv_free(&s->refs);
}

static void search_init(struct search *s, const char *ref)
{
        const char *hex = digest_hex(ref);
        size_t n = strlen(hex);

        *s = (struct search){ .ref = ref, .best = RANK_NONE };
        s->normalised = normalise(ref);
        /* Shorter prefixes never match: 12 digits are what lists show. */
        if (n >= 12 && n <= 64 && cc_is_hex(hex, n))
                s->hex = hex;
}

static enum rank rank_of(const struct search *s, const char *kind, const struct image_record *image)
{
        const char *hex;

        if (cc_streq(image->ref, s->ref))
                return RANK_EXACT;
        if (s->normalised && cc_streq(kind, IMAGE_OCI)) {
                CC_FREE char *mine = normalise(image->ref);

                if (cc_streq(mine, s->normalised))
                        return RANK_NORMALISED;
        }
        hex = digest_hex(record_digest(image));
        return s->hex && hex && cc_startswith(hex, s->hex) ? RANK_DIGEST : RANK_NONE;
}

static int search_one(void *ctx, const char *kind, struct image_record *image, struct cc_err *err)
{
        struct search *s = ctx;
        enum rank rank = rank_of(s, kind, image);

        cc_strv_add(&s->refs, image->ref);
        if (rank == RANK_NONE || rank > s->best)
                return 0;
        if (rank < s->best)
                search_drop(s);
        s->best = rank;
        s->matches = xreallocarray(s->matches, s->n + 1, sizeof(*s->matches));
        s->matches[s->n] = (struct match){ .kind = xstrdup(kind) };
        record_copy(cc_streq(kind, IMAGE_OCI) ? &image_oci_type : &image_cloudimg_type,
                    &s->matches[s->n].image, image);
        s->n++;
        return 0;
}

/* Fill s->matches with everything the reference means: one ref, or all refs of one digest. */
static int search_run(struct meta *m, struct search *s, struct cc_err *err)
{
        int r = meta_image_each(m, NULL, search_one, s, err);

        if (r < 0)
                return r;
        if (s->n == 0) {
                const char *near = cc_closest(s->ref, (const char *const *)s->refs.v, s->refs.len);

                r = cc_fail(err, CC_NOT_FOUND, "image \"%s\": not found in any backend", s->ref);
                cc_code(err, "image_not_found");
                if (near)
                        cc_hint(err, "did you mean \"%s\"?", near);
                return r;
        }
        for (size_t i = 1; i < s->n; i++) {
                if (!cc_streq(s->matches[i].kind, s->matches[0].kind))
                        return cc_fail(err, CC_AMBIGUOUS,
                                       "image %s: image ref resolves to multiple backends "
                                       "(backends: oci, cloudimg)",
                                       s->ref);
                if (!cc_streq(record_digest(&s->matches[i].image),
                              record_digest(&s->matches[0].image)))
                        return cc_fail(err, CC_AMBIGUOUS,
                                       "image \"%s\": ambiguous (matches multiple digests), use a "
                                       "longer prefix",
                                       s->ref);
        }
        return 0;
}

int image_resolve(struct meta *m, const char *ref, char ret_kind[16], struct image_record *ret,
                  struct cc_err *err)
{
        CC_CLEANUP(search_free) struct search s;
        int r;

        search_init(&s, ref);
        r = search_run(m, &s, err);
        if (r < 0)
                return r;
        (void)snprintf(ret_kind, 16, "%s", s.matches[0].kind);
        *ret = s.matches[0].image;
        memset(&s.matches[0].image, 0, sizeof(s.matches[0].image));
        return 0;
}

static int list_one(void *ctx, const char *kind, struct image_record *image, struct cc_err *err)
{
        struct record_array *list = ctx;
        struct image_view *v = record_array_add(&image_view_type, list);
        const char *digest = record_digest(image);

        v->id = xstrdup(digest ? digest : "");
        v->name = xstrdup(image->ref);
        v->type = xstrdup(kind);
        v->size = image->size;
        v->created_at = image->created_at;
        return 0;
}

int image_list(struct meta *m, struct record_array *ret, struct cc_err *err)
{
        struct record_array list = { 0 };

        for (size_t i = 0; i < CC_ARRAY_LEN(kinds); i++) {
                int r = meta_image_each(m, kinds[i], list_one, &list, err);

                if (r < 0) {
                        for (size_t k = 0; k < list.len; k++)
                                record_clear(&image_view_type, (struct image_view *)list.v + k);
                        free(list.v);
                        return r;
                }
        }
        *ret = list;
        return 0;
}

/* One argument of rm. By name only that ref goes, by digest every ref of it. */
static int rm_collect(struct meta *m, const char *ref, struct cc_strv *kind, struct cc_strv *refs,
                      struct cc_err *err)
{
        CC_CLEANUP(search_free) struct search s;
        size_t n;
        int r;

        search_init(&s, ref);
        r = search_run(m, &s, err);
        if (r < 0)
                return r;
        n = s.best == RANK_DIGEST ? s.n : 1;
        for (size_t i = 0; i < n; i++) {
                bool seen = false;

                for (size_t k = 0; k < refs->len; k++)
                        seen |= cc_streq(refs->v[k], s.matches[i].image.ref) &&
                                cc_streq(kind->v[k], s.matches[i].kind);
                if (seen)
                        continue;
                cc_strv_add(refs, s.matches[i].image.ref);
                cc_strv_add(kind, s.matches[i].kind);
        }
        return 0;
}

int image_rm(struct meta *m, const char *const *refs, size_t n, bool dry_run,
             struct cc_strv *ret_removed, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        CC_STRV struct cc_strv kind = { 0 };
        int r = meta_begin(m, dry_run ? META_READ : META_DURABLE, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n && r == 0; i++)
                r = rm_collect(m, refs[i], &kind, &names, err);
        for (size_t i = 0; i < names.len && r == 0 && !dry_run; i++)
                r = meta_image_ref_delete(m, kind.v[i], names.v[i], err);
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        r = meta_commit(m, err);
        if (r == 0)
                cc_strv_copy(ret_removed, &names);
        return r;
}
