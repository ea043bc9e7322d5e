/* The handle of a running VMM process. See driver.h. */
#include "hv/driver.h"

void vm_proc_clear(struct vm_proc *p)
{
        if (p->pidfd >= 0)
                close(p->pidfd);
        if (p->console >= 0)
                close(p->console);
        *p = (struct vm_proc)VM_PROC_INIT;
}
