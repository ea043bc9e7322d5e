/* The table engine: load, dump, copy, clear and check of any record type. See record.h. */
#include "model/record.h"

#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/timeutil.h"

/* Where in the document a load is, for messages: "network_configs[1].mac". Frames live on the
 * stack of the recursion; the text is only built when something is wrong. */
struct where {
        const struct where *up;
        const char *name;
        ptrdiff_t index; /* element of an array field, -1: the field itself */
};

static void *at(const void *rec, const struct field *f)
{
        return (char *)(uintptr_t)rec + f->offset;
}

static json_t **extra_of(const struct record_type *type, const void *rec)
{
        return type->extra == SIZE_MAX ? NULL : (json_t **)((uintptr_t)rec + type->extra);
}

static void path_text(const struct where *w, struct cc_buf *out)
{
        if (!w)
                return;
        path_text(w->up, out);
        if (w->name) {
                if (out->len)
                        cc_buf_char(out, '.');
                cc_buf_str(out, w->name);
        }
        if (w->index >= 0)
                cc_buf_printf(out, "[%td]", w->index);
}

static int bad(const struct where *w, const char *what, const char *why, struct cc_err *err)
{
        CC_BUF struct cc_buf path = { 0 };

        path_text(w, &path);
        return cc_fail(err, CC_INVALID, "%s: %s%s%s", what, path.len ? path.data : "the document",
                       " ", why);
}

void record_init(const struct record_type *type, void *rec)
{
        memset(rec, 0, type->size);
        for (size_t i = 0; i < type->n; i++) {
                const struct field *f = type->fields + i;

                if (f->type == FIELD_TRISTATE)
                        *(int *)at(rec, f) = -1;
                else if (f->type == FIELD_OBJECT)
                        record_init(f->sub, at(rec, f));
        }
}

static void array_clear(const struct record_type *sub, struct record_array *a)
{
        for (size_t i = 0; i < a->len; i++)
                record_clear(sub, (char *)a->v + i * sub->size);
        free(a->v);
        *a = (struct record_array){ 0 };
}

void record_clear(const struct record_type *type, void *rec)
{
        json_t **extra = extra_of(type, rec);

        for (size_t i = 0; i < type->n; i++) {
                const struct field *f = type->fields + i;
                void *p = at(rec, f);

                switch (f->type) {
                case FIELD_STR:
                        free(*(char **)p);
                        break;
                case FIELD_SET:
                case FIELD_STRS:
                        cc_strv_free(p);
                        break;
                case FIELD_OBJECT:
                        record_clear(f->sub, p);
                        break;
                case FIELD_PTR:
                        if (*(void **)p)
                                record_clear(f->sub, *(void **)p);
                        free(*(void **)p);
                        break;
                case FIELD_ARRAY:
                        array_clear(f->sub, p);
                        break;
                case FIELD_JSON:
                        json_decref(*(json_t **)p);
                        break;
                case FIELD_INT:
                case FIELD_BOOL:
                case FIELD_TRISTATE:
                case FIELD_TIME:
                        break;
                }
        }
        if (extra)
                json_decref(*extra);
        memset(rec, 0, type->size);
}

void *record_array_add(const struct record_type *sub, struct record_array *a)
{
        void *el;

        /* Doubling at powers of two needs no capacity field. */
        if ((a->len & (a->len - 1)) == 0)
                a->v = xreallocarray(a->v, a->len ? a->len * 2 : 1, sub->size);
        el = (char *)a->v + a->len++ * sub->size;
        record_init(sub, el);
        return el;
}

/* ---- load ---- */

static int load_object(const struct record_type *type, const char *what, const json_t *json,
                       void *rec, const struct where *w, struct cc_err *err);

static int load_set(const json_t *v, struct cc_strv *set, const char *what, const struct where *w,
                    struct cc_err *err)
{
        const char *key;
        json_t *ignored;

        if (!json_is_object(v))
                return bad(w, what, "is not an object", err);
        json_object_foreach ((json_t *)(uintptr_t)v, key, ignored)
                cc_strv_add(set, key);
        cc_strv_sort(set);
        return 0;
}

static int load_strs(const json_t *v, struct cc_strv *strs, const char *what, const struct where *w,
                     struct cc_err *err)
{
        if (!json_is_array(v))
                return bad(w, what, "is not an array", err);
        for (size_t i = 0; i < json_array_size(v); i++) {
                struct where el = { .up = w, .index = (ptrdiff_t)i };
                const json_t *s = json_array_get(v, i);

                if (!json_is_string(s))
                        return bad(&el, what, json_is_null(s) ? "is null" : "is not a string", err);
                cc_strv_add(strs, json_string_value(s));
        }
        return 0;
}

static int load_array(const struct field *f, const json_t *v, struct record_array *a,
                      const char *what, const struct where *w, struct cc_err *err)
{
        if (!json_is_array(v))
                return bad(w, what, "is not an array", err);
        for (size_t i = 0; i < json_array_size(v); i++) {
                struct where where = { .up = w, .index = (ptrdiff_t)i };
                const json_t *item = json_array_get(v, i);
                void *el = record_array_add(f->sub, a);
                int r;

                if (json_is_null(item)) {
                        if (f->flags & FIELD_NULLS)
                                continue;
                        return bad(&where, what, "is null", err);
                }
                r = load_object(f->sub, what, item, el, &where, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int load_field(const struct field *f, const json_t *v, void *p, const char *what,
                      const struct where *w, struct cc_err *err)
{
        switch (f->type) {
        case FIELD_STR:
                if (!json_is_string(v))
                        return bad(w, what, "is not a string", err);
                *(char **)p = xstrdup(json_string_value(v));
                return 0;
        case FIELD_INT:
                if (!json_is_integer(v))
                        return bad(w, what, "is not an integer", err);
                *(int64_t *)p = json_integer_value(v);
                return 0;
        case FIELD_BOOL:
                if (!json_is_boolean(v))
                        return bad(w, what, "is not a boolean", err);
                *(bool *)p = json_is_true(v);
                return 0;
        case FIELD_TRISTATE:
                if (!json_is_boolean(v))
                        return bad(w, what, "is not a boolean", err);
                *(int *)p = json_is_true(v);
                return 0;
        case FIELD_TIME:
                if (!json_is_string(v) || cc_time_parse(json_string_value(v), p) < 0)
                        return bad(w, what, "is not an RFC 3339 time", err);
                return 0;
        case FIELD_SET:
                return load_set(v, p, what, w, err);
        case FIELD_STRS:
                return load_strs(v, p, what, w, err);
        case FIELD_OBJECT:
                return load_object(f->sub, what, v, p, w, err);
        case FIELD_PTR:
                *(void **)p = xcalloc(1, f->sub->size);
                record_init(f->sub, *(void **)p);
                return load_object(f->sub, what, v, *(void **)p, w, err);
        case FIELD_ARRAY:
                return load_array(f, v, p, what, w, err);
        case FIELD_JSON:
                *(json_t **)p = json_incref((json_t *)(uintptr_t)v);
                return 0;
        }
        return bad(w, what, "has an unknown type", err);
}

static int load_object(const struct record_type *type, const char *what, const json_t *json,
                       void *rec, const struct where *w, struct cc_err *err)
{
        json_t **extra = extra_of(type, rec);
        const char *key;
        json_t *v;
        size_t next = 0;

        if (!json_is_object(json))
                return bad(w, what, "is not an object", err);
        json_object_foreach ((json_t *)(uintptr_t)json, key, v) {
                struct where where = { .up = w, .name = key, .index = -1 };
                const struct field *f = NULL;
                int r;

                /* Our own documents come in table order: look from the last hit onwards. */
                for (size_t i = 0; i < type->n && !f; i++, next = (next + 1) % type->n)
                        if (strcmp(type->fields[next].name, key) == 0)
                                f = type->fields + next;
                if (!f) {
                        if (extra) {
                                if (!*extra)
                                        *extra = json_object();
                                json_object_set(*extra, key, v);
                        }
                        continue;
                }
                if (json_is_null(v))
                        continue;
                r = load_field(f, v, at(rec, f), what, &where, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int record_load(const struct record_type *type, const json_t *json, void *rec, struct cc_err *err)
{
        int r;

        record_init(type, rec);
        r = load_object(type, type->what, json, rec, NULL, err);
        if (r < 0)
                record_clear(type, rec);
        return r;
}

/* ---- dump ---- */

/* Strings are checked by record_check() before they are stored; for display a foreign byte must not
 * make a whole field vanish, so it becomes '?'. */
static json_t *string_json(const char *s)
{
        json_t *j = json_string(s ? s : "");

        if (!j) {
                CC_FREE char *clean = xstrdup(s);

                for (char *p = clean; *p; p++)
                        if ((unsigned char)*p >= 0x80)
                                *p = '?';
                j = json_string(clean);
        }
        return j;
}

static json_t *time_json(int64_t ns)
{
        char text[CC_RFC3339_MAX];

        /* The year-1 time is what upstream writes for "never"; reading it gives 0 again. */
        if (ns == 0)
                return json_string("0001-01-01T00:00:00Z");
        cc_time_rfc3339(ns, text);
        return json_string(text);
}

static json_t *strv_json(const struct cc_strv *s, bool as_set)
{
        json_t *j = as_set ? json_object() : json_array();
        const char *item;

        cc_strv_foreach (s, i, item) {
                if (as_set)
                        json_object_set_new(j, item, json_object());
                else
                        json_array_append_new(j, string_json(item));
        }
        return j;
}

static json_t *array_json(const struct record_type *sub, const struct record_array *a,
                          enum record_view view)
{
        json_t *j = json_array();

        for (size_t i = 0; i < a->len; i++)
                json_array_append_new(j, record_dump(sub, (char *)a->v + i * sub->size, view));
        return j;
}

/* The value to write, or NULL when the key is left out. */
static json_t *dump_field(const struct field *f, const void *p, enum record_view view)
{
        bool always = f->flags & FIELD_ALWAYS;
        json_t *j;

        switch (f->type) {
        case FIELD_STR:
                return always || !cc_isempty(*(char *const *)p) ? string_json(*(char *const *)p)
                                                                : NULL;
        case FIELD_INT:
                return always || *(const int64_t *)p ? json_integer(*(const int64_t *)p) : NULL;
        case FIELD_BOOL:
                return always || *(const bool *)p ? json_boolean(*(const bool *)p) : NULL;
        case FIELD_TRISTATE:
                return *(const int *)p >= 0 ? json_boolean(*(const int *)p) : NULL;
        case FIELD_TIME:
                return always || *(const int64_t *)p ? time_json(*(const int64_t *)p) : NULL;
        case FIELD_SET:
        case FIELD_STRS:
                return always || ((const struct cc_strv *)p)->len
                               ? strv_json(p, f->type == FIELD_SET)
                               : NULL;
        case FIELD_OBJECT:
                j = record_dump(f->sub, p, view);
                if (always || json_object_size(j) > 0)
                        return j;
                json_decref(j);
                return NULL;
        case FIELD_PTR:
                return *(void *const *)p ? record_dump(f->sub, *(void *const *)p, view) : NULL;
        case FIELD_ARRAY:
                return always || ((const struct record_array *)p)->len ? array_json(f->sub, p, view)
                                                                       : NULL;
        case FIELD_JSON:
                return json_incref(*(json_t *const *)p);
        }
        return NULL;
}

json_t *record_dump(const struct record_type *type, const void *rec, enum record_view view)
{
        unsigned hidden = view == RECORD_STORE ? FIELD_SHOWN : FIELD_STORED;
        json_t **extra = extra_of(type, rec);
        json_t *j = json_object();

        for (size_t i = 0; i < type->n; i++) {
                const struct field *f = type->fields + i;
                json_t *v = f->flags & hidden ? NULL : dump_field(f, at(rec, f), view);

                if (v)
                        json_object_set_new(j, f->name, v);
        }
        /* Foreign keys travel with the stored record only: what a newer version keeps there may
         * not be meant for users. */
        if (view == RECORD_STORE && extra && *extra)
                json_object_update_missing(j, *extra);
        return j;
}

/* ---- copy and check ---- */

void record_copy(const struct record_type *type, void *dst, const void *src)
{
        json_t **extra = extra_of(type, src);

        record_clear(type, dst);
        for (size_t i = 0; i < type->n; i++) {
                const struct field *f = type->fields + i;
                const void *s = at(src, f);
                void *d = at(dst, f);

                switch (f->type) {
                case FIELD_STR:
                        *(char **)d = xstrdup0(*(char *const *)s);
                        break;
                case FIELD_INT:
                case FIELD_TIME:
                        *(int64_t *)d = *(const int64_t *)s;
                        break;
                case FIELD_BOOL:
                        *(bool *)d = *(const bool *)s;
                        break;
                case FIELD_TRISTATE:
                        *(int *)d = *(const int *)s;
                        break;
                case FIELD_SET:
                case FIELD_STRS:
                        cc_strv_copy(d, s);
                        break;
                case FIELD_OBJECT:
                        record_copy(f->sub, d, s);
                        break;
                case FIELD_PTR:
                        if (*(void *const *)s) {
                                *(void **)d = xcalloc(1, f->sub->size);
                                record_copy(f->sub, *(void **)d, *(void *const *)s);
                        }
                        break;
                case FIELD_ARRAY: {
                        const struct record_array *from = s;

                        for (size_t k = 0; k < from->len; k++)
                                record_copy(f->sub, record_array_add(f->sub, d),
                                            (char *)from->v + k * f->sub->size);
                        break;
                }
                case FIELD_JSON:
                        *(json_t **)d = json_deep_copy(*(json_t *const *)s);
                        break;
                }
        }
        if (extra)
                *extra_of(type, dst) = json_deep_copy(*extra);
}

static int check_text(const char *s, const struct where *w, const char *what, struct cc_err *err)
{
        if (s && !cc_utf8_valid(s, strlen(s)))
                return bad(w, what, "is not valid UTF-8", err);
        return 0;
}

static int check_object(const struct record_type *type, const char *what, const void *rec,
                        const struct where *w, struct cc_err *err)
{
        for (size_t i = 0; i < type->n; i++) {
                const struct field *f = type->fields + i;
                struct where where = { .up = w, .name = f->name, .index = -1 };
                const void *p = at(rec, f);
                int r = 0;

                if (f->type == FIELD_STR) {
                        r = check_text(*(char *const *)p, &where, what, err);
                } else if (f->type == FIELD_SET || f->type == FIELD_STRS) {
                        const struct cc_strv *s = p;

                        for (size_t k = 0; k < s->len && r == 0; k++)
                                r = check_text(s->v[k], &where, what, err);
                } else if (f->type == FIELD_OBJECT) {
                        r = check_object(f->sub, what, p, &where, err);
                } else if (f->type == FIELD_PTR && *(void *const *)p) {
                        r = check_object(f->sub, what, *(void *const *)p, &where, err);
                } else if (f->type == FIELD_ARRAY) {
                        const struct record_array *a = p;

                        for (size_t k = 0; k < a->len && r == 0; k++) {
                                struct where el = { .up = &where, .index = (ptrdiff_t)k };

                                r = check_object(f->sub, what, (char *)a->v + k * f->sub->size, &el,
                                                 err);
                        }
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

int record_check(const struct record_type *type, const void *rec, struct cc_err *err)
{
        return check_object(type, type->what, rec, NULL, err);
}
