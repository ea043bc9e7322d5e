/* Decoding and building frames; frame.h. */
#include "frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base64.h"

static const char *const type_names[] = {
        [FRAME_HELLO] = "hello",   [FRAME_EXEC] = "exec",
        [FRAME_RESEED] = "reseed", [FRAME_PING] = "ping",
        [FRAME_PUT] = "put",       [FRAME_GET] = "get",
        [FRAME_STDIN] = "stdin",   [FRAME_STDIN_CLOSE] = "stdin_close",
        [FRAME_SIGNAL] = "signal", [FRAME_RESIZE] = "resize",
};

#define N_TYPES (sizeof(type_names) / sizeof(type_names[0]))

const char *frame_type_name(enum frame_type type)
{
        return type_names[type] ? type_names[type] : "unknown";
}

/* Each string ends up before where its text stood: `["a","b"]` is longer than a NUL b NUL. */
static bool read_argv(struct json *j, struct frame_strings *ret)
{
        struct frame_strings s = { 0 };
        struct json_text text;
        bool first = true;
        char *to;

        if (!jr_enter(j, '['))
                return false;
        s.data = to = j->at;
        while (jr_item(j, &first) && jr_string(j, &text)) {
                if (memchr(text.data, '\0', text.len)) {
                        j->why = "NUL in argv";
                        return false;
                }
                memmove(to, text.data, text.len + 1);
                to += text.len + 1;
                s.count++;
        }
        if (j->why)
                return false;
        *ret = s;
        return true;
}

/* The same for {"K":"V"}. */
static bool read_env(struct json *j, struct frame_strings *ret)
{
        struct frame_strings s = { 0 };
        struct json_text key;
        struct json_text value;
        bool first = true;
        char *to;

        if (!jr_enter(j, '{'))
                return false;
        s.data = to = j->at;
        while (jr_key(j, &first, &key)) {
                if (!jr_string(j, &value))
                        return false;
                if (key.len == 0 || memchr(key.data, '=', key.len) ||
                    memchr(key.data, '\0', key.len) || memchr(value.data, '\0', value.len)) {
                        j->why = "bad environment variable";
                        return false;
                }
                memmove(to, key.data, key.len);
                to += key.len;
                *to++ = '=';
                memmove(to, value.data, value.len + 1);
                to += value.len + 1;
                s.count++;
        }
        if (j->why)
                return false;
        *ret = s;
        return true;
}

/* A path, a name: a C string. */
static bool read_word(struct json *j, struct json_text *ret)
{
        if (!jr_string(j, ret))
                return false;
        if (memchr(ret->data, '\0', ret->len)) {
                j->why = "NUL in a name";
                return false;
        }
        return true;
}

static bool read_value(struct json *j, const struct json_text *key, struct frame *f)
{
        const struct {
                const char *key;
                struct json_text *text;
                bool *flag;
                int64_t *number;
        } keys[] = {
                { "type", .text = &f->type_name },
                { "data", .text = &f->data },
                { "nonce", .text = &f->nonce },
                { "signal", .text = &f->signal },
                { "cwd", .text = &f->cwd },
                { "user", .text = &f->user },
                { "term", .text = &f->term },
                { "path", .text = &f->path },
                { "name", .text = &f->name },
                { "regen_machine_id", .flag = &f->regen_machine_id },
                { "tty", .flag = &f->tty },
                { "raw", .flag = &f->raw },
                { "rows", .number = &f->rows },
                { "cols", .number = &f->cols },
                { "mode", .number = &f->mode },
                { "size", .number = &f->size },
        };

        /* As if the key were not there. */
        if (jr_peek(j) == 'n')
                return jr_skip(j);
        if (jr_text_is(key, "argv"))
                return read_argv(j, &f->argv);
        if (jr_text_is(key, "env"))
                return read_env(j, &f->env);
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
                if (!jr_text_is(key, keys[i].key))
                        continue;
                if (keys[i].flag)
                        return jr_bool(j, keys[i].flag);
                if (keys[i].number)
                        return jr_int(j, keys[i].number);
                return read_word(j, keys[i].text);
        }
        return jr_skip(j);
}

const char *frame_decode(char *line, size_t len, struct frame *ret)
{
        struct frame f = { .mode = -1, .size = -1 };
        struct json_text key;
        struct json j;
        bool first = true;

        jr_begin(&j, line, len);
        if (jr_enter(&j, '{'))
                while (jr_key(&j, &first, &key) && read_value(&j, &key, &f))
                        ;
        if (!jr_finish(&j))
                return j.why;
        for (size_t i = 1; i < N_TYPES; i++)
                if (jr_text_is(&f.type_name, type_names[i]))
                        f.type = (enum frame_type)i;
        *ret = f;
        return NULL;
}

void frame_raw_header(void *header, enum frame_raw_kind kind, size_t n)
{
        unsigned char *h = header;

        h[0] = (unsigned char)kind;
        h[1] = (unsigned char)n;
        h[2] = (unsigned char)(n >> 8);
        h[3] = (unsigned char)(n >> 16);
}

void frame_put_data(struct buf *out, enum frame_raw_kind kind, const void *data, size_t n)
{
        buf_puts(out, kind == RAW_STDOUT ? "{\"type\":\"stdout\",\"data\":\""
                                         : "{\"type\":\"stderr\",\"data\":\"");
        base64_encode(buf_room(out, BASE64_LEN(n)), data, n);
        buf_commit(out, BASE64_LEN(n));
        buf_puts(out, "\"}\n");
}

void frame_start(struct frame_writer *w, struct buf *out, bool raw, const char *type)
{
        *w = (struct frame_writer){ .out = out, .raw = raw };
        if (raw)
                buf_put(out, "\0\0\0\0", FRAME_RAW_HEADER);
        w->start = out->len;
        buf_puts(out, "{\"type\":\"");
        buf_puts(out, type);
        buf_puts(out, "\"");
}

static void put_key(struct frame_writer *w, const char *key)
{
        buf_puts(w->out, ",\"");
        buf_puts(w->out, key);
        buf_puts(w->out, "\":");
}

void frame_literal(struct frame_writer *w, const char *key, const char *json)
{
        put_key(w, key);
        buf_puts(w->out, json);
}

void frame_int(struct frame_writer *w, const char *key, int64_t value)
{
        char text[24];

        snprintf(text, sizeof(text), "%" PRId64, value);
        frame_literal(w, key, text);
}

void frame_string(struct frame_writer *w, const char *key, const char *value, size_t len)
{
        put_key(w, key);
        buf_puts(w->out, "\"");
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)value[i];
                char escape[8];

                if (c == '"' || c == '\\') {
                        snprintf(escape, sizeof(escape), "\\%c", c);
                        buf_puts(w->out, escape);
                } else if (c < 0x20 || c == 0x7f) {
                        snprintf(escape, sizeof(escape), "\\u%04x", c);
                        buf_puts(w->out, escape);
                } else {
                        buf_put(w->out, &c, 1);
                }
        }
        buf_puts(w->out, "\"");
}

void frame_end(struct frame_writer *w)
{
        if (!w->raw) {
                buf_puts(w->out, "}\n");
                return;
        }
        buf_puts(w->out, "}");
        frame_raw_header(buf_head(w->out) + w->start - FRAME_RAW_HEADER, RAW_CONTROL,
                         w->out->len - w->start);
}
