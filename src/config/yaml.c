/* YAML and JSON configuration files through libyaml's event stream: nothing is built in memory, so
 * anchors cannot multiply and depth is bounded here. */
#include <string.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/str.h"
#include "config/file.h"

#define MAX_DEPTH 16

static void cleanup_event(yaml_event_t *e)
{
        yaml_event_delete(e);
}
#define EVENT CC_CLEANUP(cleanup_event)

struct reader {
        yaml_parser_t parser;
        config_file_fn fn;
        void *ctx;
        unsigned depth;
};

static int next(struct reader *r, yaml_event_t *event, struct cc_err *err)
{
        if (!yaml_parser_parse(&r->parser, event))
                return cc_fail(err, CC_INVALID, "line %zu: %s", r->parser.problem_mark.line + 1,
                               r->parser.problem ? r->parser.problem : "unreadable");
        if (event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT) {
                if (++r->depth > MAX_DEPTH)
                        return cc_fail(err, CC_INVALID, "line %zu: nested too deeply",
                                       event->start_mark.line + 1);
        } else if (event->type == YAML_MAPPING_END_EVENT ||
                   event->type == YAML_SEQUENCE_END_EVENT) {
                r->depth--;
        }
        return 0;
}

/* Skip the rest of a collection whose start event made the depth `inside`. */
static int skip(struct reader *r, unsigned inside, struct cc_err *err)
{
        while (r->depth >= inside) {
                EVENT yaml_event_t event = { 0 };
                int e = next(r, &event, err);

                if (e < 0)
                        return e;
        }
        return 0;
}

static const char *scalar(const yaml_event_t *e)
{
        return (const char *)e->data.scalar.value;
}

static bool is_null(const yaml_event_t *e)
{
        const char *s = scalar(e);

        return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
               (!*s || strcmp(s, "~") == 0 || strcasecmp(s, "null") == 0);
}

static int read_list(struct reader *r, const char *key, struct cc_err *err)
{
        CC_STRV struct cc_strv items = { 0 };
        CC_FREE char *joined = NULL;
        bool plain = true;

        for (;;) {
                EVENT yaml_event_t event = { 0 };
                int e = next(r, &event, err);

                if (e < 0)
                        return e;
                if (event.type == YAML_SEQUENCE_END_EVENT)
                        break;
                if (event.type == YAML_SCALAR_EVENT) {
                        cc_strv_add(&items, scalar(&event));
                        continue;
                }
                plain = false;
                if (event.type != YAML_ALIAS_EVENT)
                        e = skip(r, r->depth, err);
                if (e < 0)
                        return e;
        }
        joined = cc_strv_join(&items, ",");
        return r->fn(r->ctx, key, plain ? joined : NULL, err);
}

static int read_map(struct reader *r, const char *prefix, struct cc_err *err);

static int read_value(struct reader *r, const char *key, bool top, struct cc_err *err)
{
        EVENT yaml_event_t event = { 0 };
        int e = next(r, &event, err);

        if (e < 0)
                return e;
        switch (event.type) {
        case YAML_SCALAR_EVENT:
                if (is_null(&event))
                        return 0;
                if (strlen(scalar(&event)) != event.data.scalar.length)
                        return cc_fail(err, CC_INVALID, "line %zu: %s: NUL byte in the value",
                                       event.start_mark.line + 1, key);
                return r->fn(r->ctx, key, scalar(&event), err);
        case YAML_SEQUENCE_START_EVENT:
                return read_list(r, key, err);
        case YAML_MAPPING_START_EVENT:
                e = r->fn(r->ctx, key, NULL, err);
                if (e < 0)
                        return e;
                return top ? read_map(r, key, err) : skip(r, r->depth, err);
        case YAML_ALIAS_EVENT:
                return r->fn(r->ctx, key, NULL, err);
        default:
                return cc_fail(err, CC_INVALID, "line %zu: unexpected content",
                               event.start_mark.line + 1);
        }
}

static int read_map(struct reader *r, const char *prefix, struct cc_err *err)
{
        for (;;) {
                EVENT yaml_event_t event = { 0 };
                CC_FREE char *key = NULL;
                int e = next(r, &event, err);

                if (e < 0)
                        return e;
                if (event.type == YAML_MAPPING_END_EVENT)
                        return 0;
                if (event.type != YAML_SCALAR_EVENT)
                        return cc_fail(err, CC_INVALID, "line %zu: a key must be a plain name",
                                       event.start_mark.line + 1);
                key = prefix ? xasprintf("%s.%s", prefix, scalar(&event)) : xstrdup(scalar(&event));
                e = read_value(r, key, !prefix, err);
                if (e < 0)
                        return e;
        }
}

static int read_document(struct reader *r, struct cc_err *err)
{
        for (;;) {
                EVENT yaml_event_t event = { 0 };
                int e = next(r, &event, err);

                if (e < 0)
                        return e;
                switch (event.type) {
                case YAML_STREAM_START_EVENT:
                case YAML_DOCUMENT_START_EVENT:
                        continue;
                case YAML_STREAM_END_EVENT: /* an empty file says nothing */
                        return 0;
                case YAML_MAPPING_START_EVENT:
                        e = read_map(r, NULL, err);
                        if (e < 0)
                                return e;
                        break;
                case YAML_SCALAR_EVENT:
                        if (is_null(&event))
                                break;
                        /* fall through */
                default:
                        return cc_fail(err, CC_INVALID, "line %zu: keys and values are expected",
                                       event.start_mark.line + 1);
                }
                /* What follows must at least be well-formed, and be nothing. */
                for (;;) {
                        EVENT yaml_event_t end = { 0 };

                        e = next(r, &end, err);
                        if (e < 0)
                                return e;
                        if (end.type == YAML_STREAM_END_EVENT)
                                return 0;
                        if (end.type != YAML_DOCUMENT_END_EVENT)
                                return cc_fail(err, CC_INVALID, "line %zu: more than one document",
                                               end.start_mark.line + 1);
                }
        }
}

int config_read_yaml(const char *text, size_t n, config_file_fn fn, void *ctx, struct cc_err *err)
{
        struct reader r = { .fn = fn, .ctx = ctx };
        int e;

        if (!yaml_parser_initialize(&r.parser))
                return cc_fail(err, CC_INTERNAL, "cannot start the YAML parser");
        yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
        e = read_document(&r, err);
        yaml_parser_delete(&r.parser);
        return e;
}
