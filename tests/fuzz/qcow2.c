/* Headers of qcow2 images from anywhere. What passes must be within the bounds that the code behind
 * relies on, and must not name a file of this host. */
#include <stdlib.h>

#include "disk/disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct qcow2_info info;
        bool convert;

        if (qcow2_parse(data, size, "input", &info, NULL) < 0 ||
            qcow2_check_foreign(&info, "input", &convert, NULL) < 0)
                return 0;
        if (info.backing_offset || info.crypt_method || (info.incompatible & ~UINT64_C(0x19)) ||
            info.cluster_bits < 9 || info.cluster_bits > 21 || info.virtual_size == 0 ||
            info.virtual_size > UINT64_C(1) << 46 ||
            (!convert && (info.version != 3 || info.incompatible)))
                abort();
        return 0;
}
