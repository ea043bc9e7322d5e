/* What `--version` and hello tell. Counts for itself: an image keeps its agent for years. */
#pragma once

#define AGENT_VERSION "0.1.0"
