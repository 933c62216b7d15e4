/*
 * The libraries that face peers, held against the versions that have the known security fixes.
 */
#include <stdio.h>
#include <string.h>

#include "api/doctor.h"

#define DPKG       "/usr/bin/dpkg"
#define DPKG_QUERY "/usr/bin/dpkg-query"

/*
 * Where the numbers come from: Debian's changelogs (apt changelog PACKAGE) and NEWS of the projects.
 *
 * gnutls28 3.7.9-2+deb12u7, bookworm-security 2026-05, has the fixes of 3.8.13: CVE-2026-3833,
 * -33845, -33846 and others; all before it are in it (deb12u6: CVE-2025-9820, -14831; deb12u5:
 * CVE-2025-32988, -32989, -6395).  nettle 3.7.3: CVE-2021-3580, -20305.  libuv 1.44.2-1+deb12u1
 * (bookworm-security 2024-02) and 1.48.0: CVE-2024-24806.
 */
static const struct fixed {
    const char *package;
    const char *branch; /* of Debian's versions; the rest is held against upstream */
    const char *in_branch;
    const char *upstream;
    const char *what;
} fixed[] = {
    { "libgnutls30", "3.7.9-", "3.7.9-2+deb12u7", "3.8.13", "GnuTLS" },
    { "libnettle8", "3.8.1-", "3.8.1-2", "3.7.3", "nettle" },
    { "libuv1", "1.44.2-", "1.44.2-1+deb12u1", "1.48.0", "libuv" },
};

static bool
installed_version(const char *package, char *version, size_t size)
{
    const char *const arguments[] = { DPKG_QUERY, "-W", "-f", "${Version}\n", package, NULL };

    return doctor_run(arguments, version, size) == 0 && *version;
}

static bool
is_at_least(const char *version, const char *least)
{
    const char *const arguments[] = { DPKG, "--compare-versions", version, "ge", least, NULL };
    char nothing[16];

    return doctor_run(arguments, nothing, sizeof(nothing)) == 0;
}

/* least: what it would have to be, of the branch that version is of. */
static bool
is_fixed(const struct fixed *f, const char *version, const char **least)
{
    bool is_in_branch = strncmp(version, f->branch, strlen(f->branch)) == 0;

    *least = is_in_branch ? f->in_branch : f->upstream;
    return is_at_least(version, *least);
}

static void
check_package(struct doctor *d, const struct fixed *f)
{
    char version[128];
    const char *least;

    if (!installed_version(f->package, version, sizeof(version)))
        doctor_find(d, FINDING_WARN, f->package,
                    "its version is not known here: %s should be %s or later", f->what,
                    f->upstream);
    else if (is_fixed(f, version, &least))
        doctor_find(d, FINDING_OK, f->package, "%s has the security fixes known to this version",
                    version);
    else
        doctor_find(d, FINDING_BAD, f->package,
                    "%s lacks security fixes that %s has: apt-get install --only-upgrade %s, and "
                    "restart cordond",
                    version, least, f->package);
}

/* A static nursery is as new as the last build, whatever is installed. */
static void
check_linked(struct doctor *d)
{
    static const char built[] = CORDON_GNUTLS_LINKED;
    const char *running = json_string_value(json_object_get(d->status, "library"));
    char installed[128];
    const char *least;

    if (running)
        doctor_find(d, FINDING_OK, "nursery", "it runs with %s", running);
    if (!*built)
        return;
    if (!is_fixed(&fixed[0], built, &least))
        doctor_find(d, FINDING_BAD, "static",
                    "the nursery was linked with GnuTLS %s, which lacks security fixes that %s "
                    "has: upgrade libgnutls28-dev, build and install again",
                    built, least);
    else if (installed_version(fixed[0].package, installed, sizeof(installed)) &&
             !is_at_least(built, installed))
        doctor_find(d, FINDING_WARN, "static",
                    "the nursery was linked with GnuTLS %s, and %s is installed: build and "
                    "install again",
                    built, installed);
    else
        doctor_find(d, FINDING_OK, "static", "the nursery was linked with GnuTLS %s", built);
}

void
doctor_check_libraries(struct doctor *d)
{
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        check_package(d, &fixed[i]);
    check_linked(d);
}
