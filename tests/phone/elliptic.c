/* baresip 1.0 makes itself an RSA key for DTLS-SRTP, where newer phones and browsers make one on a curve, which is all that the node takes.
 * Loaded before it, this puts the key and certificate in the file that ELLIPTIC_PEM names in their place. */
#include <stdio.h>
#include <stdlib.h>

struct tls;

int tls_set_certificate(struct tls *tls, const char *pem, size_t length);

int tls_set_selfsigned_rsa(struct tls *tls, const char *name, size_t bits)
{
    static char pem[8192];
    const char *path = getenv("ELLIPTIC_PEM");
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t length;

    (void)name;
    (void)bits;
    if (!file)
        return 1;
    length = fread(pem, 1, sizeof(pem), file);
    fclose(file);
    return tls_set_certificate(tls, pem, length);
}
