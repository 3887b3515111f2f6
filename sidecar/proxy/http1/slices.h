/* Bytes of a head by their classes, slices of it, and a reader that goes through it. For scan.c; knows no field.

   A Slice points into a head that outlives it. Nothing is read at or behind a reader's `end`. */

#include <stddef.h>
#include <string.h>

typedef unsigned char byte;

enum { TOKEN = 1, VALUE = 2, BLANK = 4, TARGET = 8, DIGIT = 16, HOST_NAME = 32 };

static byte classes[256];

static void fill_classes(void)
{
    for (int c = 0; c < 256; c++) {
        int digit = c >= '0' && c <= '9';
        int alphanumeric = digit || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        int visible = c > 0x20 && c < 0x7f;
        int found = 0;
        if (alphanumeric || (visible && strchr("!#$%&'*+-.^_`|~", c))) /* RFC 9110, section 5.6.2 */
            found |= TOKEN;
        if (c == '\t' || (c >= 0x20 && c != 0x7f)) /* RFC 9110, section 5.5, with obs-text */
            found |= VALUE;
        if (c == '\t' || c == ' ') /* RFC 9110, section 5.6.3 */
            found |= BLANK;
        if (visible && c != '#') /* as the parser has it: no fragment, the rest is the service's business */
            found |= TARGET;
        if (digit)
            found |= DIGIT;
        if (alphanumeric || c == '-' || c == '.' || c == '_') /* a reg-name of RFC 3986, section 3.2.2, less the rare */
            found |= HOST_NAME;
        classes[c] = (byte)found;
    }
}

typedef struct {
    const byte *from, *to;
} Slice; /* absent where `from` is NULL */

typedef struct {
    const byte *at, *end;
} Reader;

static inline ptrdiff_t size(Slice slice) { return slice.to - slice.from; }

/* The longest run of bytes of this class; it may be empty. */
static inline Slice run(Reader *reader, int class)
{
    Slice found = {reader->at, reader->at};
    while (found.to < reader->end && classes[*found.to] & class)
        found.to++;
    reader->at = found.to;
    return found;
}

static inline int skip_bytes(Reader *reader, const char *text, ptrdiff_t length)
{
    if (reader->end - reader->at < length || memcmp(reader->at, text, (size_t)length) != 0)
        return 0;
    reader->at += length;
    return 1;
}
#define SKIP(reader, text) skip_bytes(reader, text, sizeof(text) - 1)

/* Whether the slice is this word of lower-case letters and hyphens, in any case. Setting bit 5 turns A-Z into a-z; of
   the other bytes that can stand in a name or a value it makes neither a letter nor a hyphen. */
static inline int is_word(Slice slice, const char *word, ptrdiff_t length)
{
    if (size(slice) != length)
        return 0;
    for (ptrdiff_t i = 0; i < length; i++)
        if ((slice.from[i] | 0x20) != (byte)word[i])
            return 0;
    return 1;
}
#define IS(slice, word) is_word(slice, word, sizeof(word) - 1)

static inline Slice without_blanks_behind(Slice slice)
{
    while (slice.to > slice.from && classes[slice.to[-1]] & BLANK)
        slice.to--;
    return slice;
}
