/*
 * The EROFS on-disk format as far as we write and read it: uncompressed, 4 KiB blocks, extended
 * inodes (kernel documentation, filesystems/erofs; readable from Linux 5.4 on). Offsets, not
 * structs: bytes go through the little-endian stores below or a cc_cursor.
 *
 *      block 0   superblock at byte 1024
 *      …         file data in tar order, then directory blocks
 *      …         shared extended attributes
 *      …         inodes with their inline attributes and tails (meta_blkaddr); the root comes first
 */
#pragma once

#include <stdint.h>

#define EROFS_BLOCK      4096u
#define EROFS_SB_OFFSET  1024u
#define EROFS_SB_SIZE    128u
#define EROFS_MAGIC      0xE0F5E1E2u
#define EROFS_NAME_MAX   255u
#define EROFS_INODE_SIZE 64u /* extended */
#define EROFS_SLOT       32u /* a nid counts slots from meta_blkaddr */

/* Nid 0 would become inode number 0, which readers of directories skip: the root is at the next
 * place for an extended inode. */
#define EROFS_ROOT_NID 2u

#define EROFS_COMPAT_SB_CHKSUM 1u
#define EROFS_COMPAT_MTIME     2u

enum { /* superblock fields, from EROFS_SB_OFFSET */
       SB_MAGIC = 0,
       SB_CHECKSUM = 4,
       SB_COMPAT = 8,
       SB_BLKSZBITS = 12,
       SB_ROOT_NID = 14,
       SB_INOS = 16,
       SB_BUILD_TIME = 24,
       SB_BLOCKS = 36,
       SB_META_BLKADDR = 40,
       SB_XATTR_BLKADDR = 44,
       SB_UUID = 48,
       SB_INCOMPAT = 80,
};

enum { /* extended inode fields */
       IN_FORMAT = 0,
       IN_XATTR_ICOUNT = 2,
       IN_MODE = 4,
       IN_SIZE = 8,
       IN_U = 16, /* raw_blkaddr or rdev */
       IN_INO = 20,
       IN_UID = 24,
       IN_GID = 28,
       IN_MTIME = 32,
       IN_MTIME_NSEC = 40,
       IN_NLINK = 44,
};

#define EROFS_FORMAT_EXTENDED 1u
#define EROFS_LAYOUT_PLAIN    0u
#define EROFS_LAYOUT_INLINE   2u /* last partial block behind the inode */

#define EROFS_DIRENT_SIZE  12u /* nid 8, nameoff 2, type 1, reserved 1 */
#define EROFS_XATTR_HEADER 12u /* reserved 4, shared count 1, reserved 7 */
#define EROFS_XATTR_ENTRY  4u  /* name length 1, prefix index 1, value size 2 */

enum erofs_ftype { FT_REG = 1, FT_DIR, FT_CHR, FT_BLK, FT_FIFO, FT_SOCK, FT_LNK };

enum { /* prefix indices of extended attributes */
       XI_USER = 1,
       XI_ACL_ACCESS = 2,
       XI_ACL_DEFAULT = 3,
       XI_TRUSTED = 4,
       XI_SECURITY = 6,
};

static inline void put16(uint8_t *p, uint16_t v)
{
        p[0] = (uint8_t)v;
        p[1] = (uint8_t)(v >> 8);
}

static inline void put32(uint8_t *p, uint32_t v)
{
        put16(p, (uint16_t)v);
        put16(p + 2, (uint16_t)(v >> 16));
}

static inline void put64(uint8_t *p, uint64_t v)
{
        put32(p, (uint32_t)v);
        put32(p + 4, (uint32_t)(v >> 32));
}
