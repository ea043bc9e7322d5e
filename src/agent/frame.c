/* Frames out of bytes and back. See frame.h. */
#include "agent/frame.h"

#include <string.h>

#include "agent/base64.h"
#include "base/alloc.h"
#include "base/json.h"

/* Deeper than any frame is, and shallow enough for a recursive parser. */
#define DEPTH_MAX 8

/* Binary frames: kind, length in three bytes (little-endian), data. */
#define RAW_HEAD 4
enum { RAW_STDIN = 0, RAW_STDOUT = 1, RAW_STDERR = 2, RAW_JSON = 3 };

void agent_reader_clear(struct agent_reader *r)
{
        cc_buf_free(&r->buf);
        cc_buf_free(&r->data);
        json_decref(r->json);
        *r = (struct agent_reader){ 0 };
}

char *agent_reader_room(struct agent_reader *r, size_t n)
{
        if (r->at == r->buf.len) {
                r->at = r->buf.len = 0;
        } else if (r->at && r->buf.cap - r->buf.len <= n) {
                memmove(r->buf.data, r->buf.data + r->at, r->buf.len - r->at);
                r->buf.len -= r->at;
                r->at = 0;
        }
        cc_buf_reserve(&r->buf, n);
        return r->buf.data + r->buf.len;
}

void agent_reader_got(struct agent_reader *r, size_t n)
{
        r->buf.len += n;
}

/* ---- one line ---- */

static enum agent_frame_type type_of(const char *name)
{
        static const struct {
                const char *name;
                enum agent_frame_type type;
        } rows[] = {
                { "hello", AGENT_FRAME_HELLO },   { "started", AGENT_FRAME_STARTED },
                { "stdout", AGENT_FRAME_STDOUT }, { "stderr", AGENT_FRAME_STDERR },
                { "exit", AGENT_FRAME_EXIT },     { "error", AGENT_FRAME_ERROR },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++)
                if (cc_streq(name, rows[i].name))
                        return rows[i].type;
        return AGENT_FRAME_OTHER;
}

/* jansson follows nesting by recursion; brackets are counted before it does. */
static bool too_deep(const char *s, size_t n)
{
        bool quoted = false;
        int depth = 0;

        for (size_t i = 0; i < n; i++) {
                if (quoted) {
                        if (s[i] == '\\')
                                i++;
                        else if (s[i] == '"')
                                quoted = false;
                } else if (s[i] == '"') {
                        quoted = true;
                } else if (s[i] == '{' || s[i] == '[') {
                        if (++depth > DEPTH_MAX)
                                return true;
                } else if (s[i] == '}' || s[i] == ']') {
                        depth--;
                }
        }
        return false;
}

static int decode(struct agent_reader *r, const char *text, size_t n, struct agent_frame *f)
{
        r->data.len = 0;
        cc_buf_reserve(&r->data, n / 4 * 3 + 3);
        if (agent_base64_decode(text, n, r->data.data, &r->data.len) < 0)
                return -CC_INVALID;
        f->data = r->data.data;
        f->n = r->data.len;
        return 0;
}

/* Nearly all lines of a long session look like this, and a general parser takes ten times as long
 * for them. False: not such a line, or not for certain. */
static bool parse_data(struct agent_reader *r, const char *line, size_t n, struct agent_frame *f)
{
        static const char head[] = "{\"type\":\"stdXXX\",\"data\":\"";
        static const char out[] = "{\"type\":\"stdout\",\"data\":\"";
        static const char err[] = "{\"type\":\"stderr\",\"data\":\"";
        const size_t h = sizeof(head) - 1;

        if (n < h + 2 || line[n - 2] != '"' || line[n - 1] != '}')
                return false;
        if (memcmp(line, out, h) == 0)
                f->type = AGENT_FRAME_STDOUT;
        else if (memcmp(line, err, h) == 0)
                f->type = AGENT_FRAME_STDERR;
        else
                return false;
        return decode(r, line + h, n - h - 2, f) == 0;
}

static int take_fields(struct agent_reader *r, struct agent_frame *f, struct cc_err *err)
{
        const char *name = NULL;
        const char *data = NULL;
        int e = cc_json_str(r->json, "type", &name, err);

        if (e == 0)
                e = cc_json_str(r->json, "data", &data, err);
        if (e == 0)
                e = cc_json_int(r->json, "exit_code", &f->exit_code, err);
        if (e == 0)
                e = cc_json_str(r->json, "message", &f->message, err);
        if (e == 0)
                e = cc_json_str(r->json, "nonce", &f->nonce, err);
        if (e < 0)
                return e;
        f->type = type_of(name);
        f->features = json_object_get(r->json, "features");
        if (data && decode(r, data, strlen(data), f) < 0)
                return cc_fail(err, CC_INVALID, "malformed frame: data is not base64");
        return 0;
}

static int parse(struct agent_reader *r, const char *line, size_t n, struct agent_frame *ret,
                 struct cc_err *err)
{
        struct agent_frame f = { 0 };
        struct cc_err why = CC_ERR_INIT;

        if (!parse_data(r, line, n, &f)) {
                f = (struct agent_frame){ 0 };
                json_decref(r->json);
                r->json = NULL;
                if (n == 0)
                        return cc_fail(err, CC_INVALID, "malformed frame: empty line");
                if (too_deep(line, n))
                        return cc_fail(err, CC_INVALID, "malformed frame: nested too deep");
                if (cc_json_parse(line, n, "frame", &r->json, &why) < 0 || !json_is_object(r->json))
                        return cc_fail(err, CC_INVALID, "malformed frame: not a JSON object");
                if (take_fields(r, &f, err) < 0)
                        return -CC_INVALID;
        }
        *ret = f;
        return 1;
}

/* ---- out of the stream ---- */

static int next_raw(struct agent_reader *r, struct agent_frame *ret, struct cc_err *err)
{
        const unsigned char *p = (const unsigned char *)r->buf.data + r->at;
        size_t have = r->buf.len - r->at;
        size_t n = have < RAW_HEAD ? 0 : (size_t)p[1] | (size_t)p[2] << 8 | (size_t)p[3] << 16;
        const char *data = (const char *)p + RAW_HEAD;

        if (have >= RAW_HEAD && n > AGENT_LINE_MAX)
                return cc_fail(err, CC_INVALID, "frame of %zu bytes", n);
        if (have < RAW_HEAD || have - RAW_HEAD < n)
                return r->eof && have ? cc_fail(err, CC_INVALID, "the stream ends within a frame")
                                      : 0;
        r->at += RAW_HEAD + n;
        if (p[0] == RAW_JSON)
                return parse(r, data, n, ret, err);
        *ret = (struct agent_frame){
                .type = p[0] == RAW_STDOUT   ? AGENT_FRAME_STDOUT
                        : p[0] == RAW_STDERR ? AGENT_FRAME_STDERR
                                             : AGENT_FRAME_OTHER,
                .data = data,
                .n = n,
        };
        return 1;
}

/* A line that is no frame, while the two sides look for each other: 0 to go on behind it. */
static int next_line(struct agent_reader *r, struct agent_frame *ret, bool *ret_more,
                     struct cc_err *err)
{
        const char *start = r->buf.data + r->at;
        size_t have = r->buf.len - r->at;
        const char *end =
                have > r->scanned ? memchr(start + r->scanned, '\n', have - r->scanned) : NULL;
        size_t n = end ? (size_t)(end - start) : have;
        size_t used = end ? n + 1 : n;
        int e;

        *ret_more = false;
        if (used > AGENT_LINE_MAX)
                return cc_fail(err, CC_INVALID, "frame longer than %zu bytes", AGENT_LINE_MAX);
        if (!end && (!r->eof || have == 0)) {
                r->scanned = have;
                return 0;
        }
        r->scanned = 0;
        r->at += used;
        if (n && start[n - 1] == '\r')
                n--;
        *ret_more = true;
        if (n == 0 && r->blank)
                return 0;
        e = parse(r, start, n, ret, r->skip ? NULL : err);
        if (e < 0 && r->skip)
                return 0;
        *ret_more = false;
        return e;
}

int agent_reader_next(struct agent_reader *r, struct agent_frame *ret, struct cc_err *err)
{
        bool more = true;
        int e = 0;

        if (r->buf.len == r->at)
                return 0;
        if (r->raw)
                return next_raw(r, ret, err);
        while (e == 0 && more && r->at < r->buf.len)
                e = next_line(r, ret, &more, err);
        return e;
}

/* ---- what we send ---- */

void agent_frame_json(struct cc_buf *out, const json_t *j)
{
        CC_FREE char *text = cc_json_compact(j);

        cc_buf_str(out, text);
        cc_buf_char(out, '\n');
}

void agent_frame_hello(struct cc_buf *out, const char *nonce, bool serial)
{
        /* Ends whatever line a killed session left unfinished on the port. */
        if (serial)
                cc_buf_char(out, '\n');
        cc_buf_printf(out, "{\"type\":\"hello\",\"nonce\":\"%s\"}\n", nonce);
}

static void raw_head(struct cc_buf *out, int kind, size_t n)
{
        const unsigned char head[RAW_HEAD] = { (unsigned char)kind, (unsigned char)n,
                                               (unsigned char)(n >> 8), (unsigned char)(n >> 16) };

        cc_buf_add(out, head, sizeof(head));
}

/* A control frame in the session's form. */
static void control(struct cc_buf *out, bool raw, const char *text)
{
        if (raw)
                raw_head(out, RAW_JSON, strlen(text));
        cc_buf_str(out, text);
        if (!raw)
                cc_buf_char(out, '\n');
}

void agent_frame_stdin(struct cc_buf *out, bool raw, const void *data, size_t n)
{
        if (raw) {
                raw_head(out, RAW_STDIN, n);
                cc_buf_add(out, data, n);
                return;
        }
        cc_buf_str(out, "{\"type\":\"stdin\",\"data\":\"");
        cc_buf_reserve(out, agent_base64_len(n));
        agent_base64_encode(data, n, out->data + out->len);
        out->len += agent_base64_len(n);
        cc_buf_str(out, "\"}\n");
}

void agent_frame_stdin_close(struct cc_buf *out, bool raw)
{
        control(out, raw, "{\"type\":\"stdin_close\"}");
}

void agent_frame_resize(struct cc_buf *out, bool raw, int rows, int cols)
{
        char text[64];

        (void)snprintf(text, sizeof(text), "{\"type\":\"resize\",\"rows\":%d,\"cols\":%d}", rows,
                       cols);
        control(out, raw, text);
}
