/* What cocoon-net.so exports. */
#include "net/module.h"

#include "net/providers.h"
#include "version.h"

extern const struct net_module cocoon_module_net;

const struct net_module cocoon_module_net = {
        .header = { .version = COCOON_VERSION },
        .cni = &net_provider_cni,
        .bridge = &net_provider_bridge,
};
