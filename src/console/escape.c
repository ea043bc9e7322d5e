/* The escape character: its notation, and the detach sequence. See escape.h and console.h. */
#include "console/escape.h"

#include <string.h>

#include "console/console.h"

int console_escape_parse(const char *s, unsigned char *ret, struct cc_err *err)
{
        size_t n = strlen(s);
        unsigned char byte = 0;

        if (n == 1)
                byte = (unsigned char)s[0];
        else if (n == 2 && s[0] == '^' &&
                 ((s[1] >= '@' && s[1] <= '_') || (s[1] >= 'a' && s[1] <= 'z')))
                byte = (unsigned char)(s[1] & 0x1f);
        else
                return cc_fail(err, CC_INVALID,
                               "invalid escape character \"%s\": want one byte or ^X", s);
        if (byte == 0 || byte == '\r' || byte == '\n' || byte >= 0x7f)
                return cc_fail(err, CC_INVALID,
                               "invalid escape character \"%s\": NUL, CR, LF, DEL and bytes above "
                               "127 cannot be used",
                               s);
        *ret = byte;
        return 0;
}

bool console_escape_feed(struct console_escape *e, const unsigned char *in, size_t n,
                         unsigned char *out, size_t *ret_len)
{
        size_t len = 0;

        for (size_t i = 0; i < n; i++) {
                if (e->held) {
                        e->held = false;
                        if (in[i] == '.') {
                                *ret_len = len;
                                return true;
                        }
                        out[len++] = e->byte;
                        out[len++] = in[i];
                } else if (in[i] == e->byte) {
                        e->held = true;
                } else {
                        out[len++] = in[i];
                }
        }
        *ret_len = len;
        return false;
}

void console_escape_name(unsigned char byte, char out[3])
{
        if (byte < 0x20) {
                out[0] = '^';
                out[1] = (char)(byte + '@');
                out[2] = '\0';
        } else {
                out[0] = (char)byte;
                out[1] = '\0';
        }
}
