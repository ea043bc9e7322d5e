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

/* With the hash at hand neither growing nor a miss has to look at the objects, which may lie
 * anywhere in a large file. */
struct slot {
        uint32_t ref, hash;
};

static struct slot *slots(const struct refmap *m)
{
        return arena_at(m->arena, m->table);
}

static int new_table(struct refmap *m, uint32_t capacity, struct cc_err *err)
{
        int r = arena_alloc(m->arena, capacity * sizeof(struct slot), &m->table, err);

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
        const struct slot *table = slots(m);
        uint32_t hash = (uint32_t)refmap_hash(m, scope, key, n);

        arena_tick(m->arena);
        for (uint32_t i = hash;; i++) {
                const struct slot *s = &table[i & (m->capacity - 1)];

                if (!s->ref || (s->hash == hash && m->equal(m->arena, s->ref, scope, key, n)))
                        return s->ref;
        }
}

static void place(struct refmap *m, struct slot new)
{
        struct slot *table = slots(m);
        uint32_t i = new.hash;

        while (table[i & (m->capacity - 1)].ref)
                i++;
        table[i & (m->capacity - 1)] = new;
}

int refmap_add(struct refmap *m, uint32_t scope, const void *key, size_t n, uint32_t ref,
               struct cc_err *err)
{
        if (m->count + 1 > m->capacity / 4 * 3) {
                const struct slot *old = slots(m);
                uint32_t capacity = m->capacity;
                int r = new_table(m, capacity * 2, err);

                if (r < 0)
                        return r;
                for (uint32_t i = 0; i < capacity; i++) {
                        arena_tick(m->arena);
                        if (old[i].ref)
                                place(m, old[i]);
                }
        }
        place(m, (struct slot){ ref, (uint32_t)refmap_hash(m, scope, key, n) });
        m->count++;
        return 0;
}
