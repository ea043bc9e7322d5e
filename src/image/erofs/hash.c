/* Hash table of arena references. See hash.h. */
#include "image/erofs/hash.h"

#include <string.h>

#include "base/id.h"

static inline uint64_t rotl(uint64_t v, int n)
{
        return v << n | v >> (64 - n);
}

static void round1(uint64_t v[4])
{
        v[0] += v[1];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[0] = rotl(v[0], 32);
        v[2] += v[3];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[2] = rotl(v[2], 32);
}

static void absorb(uint64_t v[4], uint64_t word)
{
        v[3] ^= word;
        round1(v);
        v[0] ^= word;
}

uint64_t refmap_hash(const struct refmap *m, uint32_t scope, const void *key, size_t n)
{
        uint64_t v[4] = { m->key[0] ^ 0x736f6d6570736575u, m->key[1] ^ 0x646f72616e646f6du,
                          m->key[0] ^ 0x6c7967656e657261u, m->key[1] ^ 0x7465646279746573u };
        const uint8_t *p = key;
        uint64_t last = (uint64_t)n << 56;

        absorb(v, scope);
        for (; n >= 8; n -= 8, p += 8) {
                uint64_t word;

                memcpy(&word, p, 8);
                absorb(v, word);
        }
        for (size_t i = 0; i < n; i++)
                last |= (uint64_t)p[i] << (8 * i);
        absorb(v, last);
        v[2] ^= 0xff;
        for (int i = 0; i < 3; i++)
                round1(v);
        return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static int new_table(struct refmap *m, uint32_t capacity, struct cc_err *err)
{
        int r = arena_alloc(m->arena, (size_t)capacity * 4, &m->table, err);

        if (r == 0)
                m->capacity = capacity;
        return r;
}

int refmap_init(struct refmap *m, struct arena *arena, struct cc_err *err)
{
        *m = (struct refmap){ .arena = arena };
        cc_random(m->key, sizeof(m->key));
        return new_table(m, 1024, err);
}

uint32_t refmap_find(const struct refmap *m, uint32_t scope, const void *key, size_t n)
{
        const uint32_t *table = arena_at(m->arena, m->table);

        for (uint64_t i = refmap_hash(m, scope, key, n);; i++) {
                uint32_t ref = table[i & (m->capacity - 1)];

                if (ref == 0 || m->equal(m->arena, ref, scope, key, n))
                        return ref;
        }
}

static void place(struct refmap *m, uint32_t ref)
{
        uint32_t *table = arena_at(m->arena, m->table);
        uint64_t i = m->hash(m, ref);

        while (table[i & (m->capacity - 1)])
                i++;
        table[i & (m->capacity - 1)] = ref;
}

int refmap_add(struct refmap *m, uint32_t ref, struct cc_err *err)
{
        if (m->count + 1 > m->capacity / 4 * 3) {
                uint32_t old = m->table;
                uint32_t n = m->capacity;
                int r = new_table(m, n * 2, err);

                if (r < 0)
                        return r;
                for (uint32_t i = 0; i < n; i++) {
                        uint32_t moved = ((uint32_t *)arena_at(m->arena, old))[i];

                        if (moved)
                                place(m, moved);
                }
        }
        place(m, ref);
        m->count++;
        return 0;
}
