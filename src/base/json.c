/* Typed JSON reads and the printers. See json.h. */
#include "base/json.h"

#include <string.h>

#include "base/alloc.h"

int cc_json_parse(const char *text, size_t n, const char *what, json_t **ret, struct cc_err *err)
{
        json_error_t why;
        json_t *j = json_loadb(text, n, JSON_DECODE_ANY, &why);

        if (!j)
                return cc_fail(err, CC_INVALID, "%s is not valid JSON: %s (line %d, column %d)",
                               what, why.text, why.line, why.column);
        *ret = j;
        return 0;
}

static const json_t *field(const json_t *obj, const char *key)
{
        const json_t *v = json_object_get(obj, key);

        return json_is_null(v) ? NULL : v;
}

int cc_json_str(const json_t *obj, const char *key, const char **ret, struct cc_err *err)
{
        const json_t *v = field(obj, key);

        if (!v)
                return 0;
        if (!json_is_string(v))
                return cc_fail(err, CC_INVALID, "field \"%s\" is not a string", key);
        *ret = json_string_value(v);
        return 0;
}

int cc_json_int(const json_t *obj, const char *key, int64_t *ret, struct cc_err *err)
{
        const json_t *v = field(obj, key);

        if (!v)
                return 0;
        if (!json_is_integer(v))
                return cc_fail(err, CC_INVALID, "field \"%s\" is not an integer", key);
        *ret = json_integer_value(v);
        return 0;
}

int cc_json_bool(const json_t *obj, const char *key, bool *ret, struct cc_err *err)
{
        const json_t *v = field(obj, key);

        if (!v)
                return 0;
        if (!json_is_boolean(v))
                return cc_fail(err, CC_INVALID, "field \"%s\" is not a boolean", key);
        *ret = json_is_true(v);
        return 0;
}

static char *dump(const json_t *j, size_t flags, const char *end)
{
        CC_FREE char *s = json_dumps(j, flags | JSON_ENCODE_ANY);

        /* Only running out of memory or invalid UTF-8 put in by ourselves can fail here. */
        if (!s)
                return xstrdup(end);
        return xasprintf("%s%s", s, end);
}

char *cc_json_pretty(const json_t *j)
{
        return dump(j, JSON_INDENT(2), "\n");
}

char *cc_json_compact(const json_t *j)
{
        return dump(j, JSON_COMPACT, "");
}
