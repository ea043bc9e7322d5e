/* Random identities and the grammar of names. See id.h. */
#include "base/id.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <stdint.h>

void cc_random(void *buf, size_t n)
{
        unsigned char *p = buf;

        while (n) {
                ssize_t r = getrandom(p, n, 0);

                if (r < 0) {
                        if (errno == EINTR)
                                continue;
                        abort();
                }
                p += r;
                n -= (size_t)r;
        }
}

void cc_id_new(char out[CC_ID_LEN + 1])
{
        static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        uint8_t raw[CC_ID_LEN];

        cc_random(raw, sizeof(raw));
        for (size_t i = 0; i < CC_ID_LEN; i++)
                out[i] = alphabet[raw[i] & 31];
        out[CC_ID_LEN] = '\0';
}

bool cc_id_valid(const char *s)
{
        return strnlen(s, CC_ID_LEN + 1) == CC_ID_LEN &&
               strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == CC_ID_LEN;
}

void cc_uuid_new(char out[37])
{
        uint8_t u[16];

        cc_random(u, sizeof(u));
        u[6] = (uint8_t)((u[6] & 0x0f) | 0x40);
        u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
        (void)snprintf(out, 37,
                       "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
                       u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
                       u[13], u[14], u[15]);
}

void cc_mac_new(char out[18])
{
        uint8_t m[6];

        cc_random(m, sizeof(m));
        m[0] = (uint8_t)((m[0] | 0x02) & 0xfe);
        (void)snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
                       m[5]);
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGIT "0123456789"

/* First byte from `first`, the others from `rest`, length 1..max. */
static bool matches(const char *s, const char *first, const char *rest, size_t max)
{
        size_t n = strnlen(s, max + 1);

        return n >= 1 && n <= max && strspn(s, first) >= 1 && strspn(s + 1, rest) == n - 1;
}

bool cc_vm_name_valid(const char *s)
{
        return matches(s, UPPER LOWER DIGIT, UPPER LOWER DIGIT "._-", 63);
}

bool cc_snapshot_name_valid(const char *s)
{
        return matches(s, UPPER LOWER DIGIT, UPPER LOWER DIGIT "._:/-", 255);
}

bool cc_user_name_valid(const char *s)
{
        return matches(s, LOWER "_", LOWER DIGIT "_-", 32);
}

bool cc_data_disk_name_valid(const char *s)
{
        return matches(s, LOWER, LOWER DIGIT "_-", 20) && strncmp(s, "cocoon-", 7) != 0;
}
