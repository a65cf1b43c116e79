/* A library for LD_PRELOAD that changes how DNS names resolve in a process while it runs. Names that end in ".test" resolve
   to the addresses in the file NAMES_FILE, which are separated by spaces. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    resolver *resolve = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t length = node ? strlen(node) : 0;
    if (length < 5 || strcmp(node + length - 5, ".test") != 0) return resolve(node, service, hints, found);
    const char *path = getenv("NAMES_FILE");
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file) return EAI_FAIL;
    char address[64];
    struct addrinfo **end = found;
    *found = NULL;
    while (fscanf(file, "%63s", address) == 1 && resolve(address, service, hints, end) == 0)
        while (*end) end = &(*end)->ai_next;
    fclose(file);
    return *found ? 0 : EAI_NONAME;
}
