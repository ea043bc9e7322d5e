/*
 * Lines from the host, as the guest agent decodes them in place. What it accepts is JSON to a
 * second reader too; what it points to lies inside the line; and the strings of argv are as many as
 * it says.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct json_text *text, const char *line, size_t size)
{
        if (text->data &&
            (text->data < line || text->data + text->len >= line + size || text->data[text->len]))
                abort();
}

static void check_strings(const struct frame_strings *s, const char *line, size_t size)
{
        const char *at = s->data;

        for (size_t i = 0; i < s->count; i++) {
                const char *end = memchr(at, '\0', (size_t)(line + size - at));

                if (at < line || !end)
                        abort();
                at = end + 1;
        }
}

/* The second reader knows smaller numbers only, and no lone surrogates. */
static bool comparable(const uint8_t *data, size_t size)
{
        size_t digits = 0;

        for (size_t i = 0; i < size; i++) {
                digits = data[i] >= '0' && data[i] <= '9' ? digits + 1 : 0;
                if (digits > 15 || data[i] == 'e' || data[i] == 'E' || data[i] == '\\')
                        return false;
        }
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *line = malloc(size ? size : 1);
        struct frame f = { 0 };

        if (!line)
                abort();
        if (size)
                memcpy(line, data, size);
        if (!frame_decode(line, size, &f)) {
                const struct json_text *texts[] = { &f.type_name, &f.data, &f.nonce,
                                                    &f.signal,    &f.cwd,  &f.user,
                                                    &f.term,      &f.path, &f.name };

                for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
                        check_text(texts[i], line, size);
                check_strings(&f.argv, line, size);
                check_strings(&f.env, line, size);
                if (comparable(data, size)) {
                        json_t *j = json_loadb((const char *)data, size, 0, NULL);

                        if (!json_is_object(j))
                                abort();
                        json_decref(j);
                }
                if (f.data.data) {
                        long n = base64_decode(f.data.data, f.data.data, f.data.len);

                        if (n > (long)(f.data.len / 4 * 3))
                                abort();
                }
        }
        free(line);
        return 0;
}
