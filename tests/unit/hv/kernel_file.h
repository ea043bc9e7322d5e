/* The smallest file that a VMM's kernel loader takes for an ELF kernel: one segment above 1 MiB. */
#pragma once

#include <elf.h>
#include <string.h>

#include "base/fs.h"

static inline int write_kernel_file(const char *path)
{
        struct {
                Elf64_Ehdr h;
                Elf64_Phdr p;
                char code[16];
        } f;

        memset(&f, 0, sizeof(f));
        memcpy(f.h.e_ident, ELFMAG, SELFMAG);
        f.h.e_ident[EI_CLASS] = ELFCLASS64;
        f.h.e_ident[EI_DATA] = ELFDATA2LSB;
        f.h.e_ident[EI_VERSION] = EV_CURRENT;
        f.h.e_type = ET_EXEC;
        f.h.e_machine = EM_X86_64;
        f.h.e_version = EV_CURRENT;
        f.h.e_entry = 16 << 20;
        f.h.e_phoff = sizeof(f.h);
        f.h.e_ehsize = sizeof(f.h);
        f.h.e_phentsize = sizeof(f.p);
        f.h.e_phnum = 1;
        f.p.p_type = PT_LOAD;
        f.p.p_flags = PF_R | PF_X;
        f.p.p_offset = sizeof(f.h) + sizeof(f.p);
        f.p.p_paddr = f.p.p_vaddr = 16 << 20;
        f.p.p_filesz = f.p.p_memsz = sizeof(f.code);
        return cc_publish(path, &f, sizeof(f), 0600, NULL);
}
