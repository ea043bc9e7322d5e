/* A host in miniature, for trying an agent out by hand. */
#pragma once

/* Runs argv (NULL-terminated) through the agent at that CID; its exit status, or 125. */
int client_run(unsigned cid, char **argv);
