/*
 * The loadable network module (cocoon-net.so): every provider that changes the host, which needs
 * libnl and libnftables. The main binary opens it through the rows of provider.c.
 */
#pragma once

#include "base/module.h"
#include "net/provider.h"

struct net_module {
        struct cc_module_header header;
        const struct net_provider *cni, *bridge;
};
/* The module exports `const struct net_module cocoon_module_net`. */
