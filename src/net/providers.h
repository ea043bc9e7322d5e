/* The providers of the module, each in a file of its name. */
#pragma once

#include "net/provider.h"

extern const struct net_provider net_provider_cni;
extern const struct net_provider net_provider_bridge;
