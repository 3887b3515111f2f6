/* Reads the head of an ordinary request or response in one pass: its framing, the fields that matter, and the fields to
   pass on.

   Owns what "ordinary" is. For a malformed head, and for one that is only rare, it answers None, and the Python parser
   beside it (request_head.py, response_head.py) reads the head. What is taken here, that parser takes too, and reads the
   same: tests/proxy/http1/test_scan.py and tools/fuzz_scan.py hold this. So a rule here may be narrower than the parser's
   and never wider. A request is smuggled where two readers of one head disagree: in doubt, say None.

   Nothing is written but new objects. Functions that read a part return 1, or 0 for "not sure". */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "slices.h"

enum { CHUNKED = -2, UNTIL_CLOSE = -1 }; /* lengths, as in head_syntax.py */

/* Fields */

typedef struct {
    Slice line;  /* from the CRLF before it up to its own: what a cut takes away */
    Slice name;
    Slice raw;   /* the value with the white space behind it */
    Slice value;
} Field;

/* RFC 9112, section 5: name ":" OWS value OWS CRLF. There is no white space before the colon (5.1), and a folded line
   (5.2) has no name, because it begins with white space. A CR or LF by itself is in no class. */
static inline int read_field(Reader *reader, Field *field)
{
    field->line.from = reader->at - 2;
    field->name = run(reader, TOKEN);
    if (size(field->name) == 0 || !SKIP(reader, ":"))
        return 0;
    run(reader, BLANK);
    field->raw = run(reader, VALUE);
    field->value = without_blanks_behind(field->raw);
    field->line.to = reader->at;
    return SKIP(reader, "\r\n");
}

/* What passes on */

enum { MOST_CUTS = 12 };

typedef struct {
    const byte *from, *to;  /* all fields: from the CRLF that ends the first line up to the last field's own */
    Slice cuts[MOST_CUTS];  /* lines that stay here, in the order of the head */
    int cut;
    Field replaceable;      /* its value is a piece by itself; its name is absent where there is none */
} Passed;

static int cut(Passed *passed, const Field *field)
{
    if (passed->cut == MOST_CUTS)
        return 0;
    passed->cuts[passed->cut++] = field->line;
    return 1;
}

/* The bytes between, without the lines that are cut. A line is wholly within or wholly outside. */
static PyObject *kept(const Passed *passed, const byte *from, const byte *to)
{
    Py_ssize_t length = to - from;
    for (int i = 0; i < passed->cut; i++)
        if (passed->cuts[i].from >= from && passed->cuts[i].to <= to)
            length -= size(passed->cuts[i]);
    PyObject *made = PyBytes_FromStringAndSize(NULL, length);
    if (made == NULL)
        return NULL;
    char *into = PyBytes_AS_STRING(made);
    for (int i = 0; i < passed->cut; i++) {
        Slice gap = passed->cuts[i];
        if (gap.from < from || gap.to > to)
            continue;
        memcpy(into, from, (size_t)(gap.from - from));
        into += gap.from - from;
        from = gap.to;
    }
    memcpy(into, from, (size_t)(to - from));
    return made;
}

/* Objects for Python */

static PyObject *bytes_of(Slice slice) { return PyBytes_FromStringAndSize((const char *)slice.from, size(slice)); }

static PyObject *bytes_or_none(Slice slice) { return slice.from == NULL ? Py_NewRef(Py_None) : bytes_of(slice); }

static PyObject *truth(int value) { return Py_NewRef(value ? Py_True : Py_False); }

/* Takes over the items; NULL where one of them could not be made. */
static PyObject *tuple_of(PyObject **items, Py_ssize_t count)
{
    PyObject *made = PyTuple_New(count);
    int whole = made != NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        whole = whole && items[i] != NULL;
        if (made != NULL)
            PyTuple_SET_ITEM(made, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    if (!whole)
        Py_CLEAR(made);
    return made;
}

/* The fields to pass on as one piece, or as three where the value in the middle may be replaced. */
static PyObject *pieces(const Passed *passed)
{
    const Field *replaceable = &passed->replaceable;
    int count = replaceable->name.from != NULL ? 3 : 1;
    PyObject *made = PyList_New(count);
    if (made == NULL)
        return NULL;
    if (count == 1) {
        PyList_SET_ITEM(made, 0, kept(passed, passed->from, passed->to));
    } else {
        PyList_SET_ITEM(made, 0, kept(passed, passed->from, replaceable->value.from));
        PyList_SET_ITEM(made, 1, bytes_of(replaceable->value));
        PyList_SET_ITEM(made, 2, kept(passed, replaceable->raw.to, passed->to));
    }
    for (int i = 0; i < count; i++)
        if (PyList_GET_ITEM(made, i) == NULL)
            Py_CLEAR(made);
    return made;
}

/* Heads */

/* What a field is to us. Each of those below STAYS_HERE may be in a head once. */
enum meaning {
    OTHER, STAYS_HERE, UNUSUAL, CONNECTION, CONTENT_LENGTH, REQUEST_CODING, RESPONSE_CODING,
    HOST, REQUEST_ID, TRACEPARENT, LOOP, IDEMPOTENCY_KEY, UPSTREAM_TIMEOUT, EXPECTED_TIMEOUT, ATTEMPT_COUNT,
    LOCATION, RETRY_AFTER, DATE,
};

typedef struct {
    const char *name; /* in lower case */
    enum meaning in_request, in_response;
} Known;

/* By length. All names that the parsers look for are here; a test holds that. */
static const Known KNOWN[] = {
    {"te", UNUSUAL, UNUSUAL},
    {"via", UNUSUAL, OTHER},
    {"date", OTHER, DATE},
    {"host", HOST, OTHER},
    {"expect", UNUSUAL, OTHER},
    {"upgrade", UNUSUAL, UNUSUAL},
    {"location", OTHER, LOCATION},
    {"connection", CONNECTION, CONNECTION},
    {"keep-alive", STAYS_HERE, STAYS_HERE},
    {"retry-after", OTHER, RETRY_AFTER},
    {"traceparent", TRACEPARENT, OTHER},
    {"x-request-id", REQUEST_ID, OTHER},
    {"content-length", CONTENT_LENGTH, CONTENT_LENGTH},
    {"x-sidecar-loop", LOOP, OTHER},
    {"idempotency-key", IDEMPOTENCY_KEY, OTHER},
    {"proxy-connection", UNUSUAL, UNUSUAL},
    {"x-sidecar-reason", OTHER, UNUSUAL},
    {"transfer-encoding", REQUEST_CODING, RESPONSE_CODING},
    {"x-forwarded-prefix", UNUSUAL, OTHER},
    {"x-sidecar-fallback", OTHER, STAYS_HERE},
    {"proxy-authorization", UNUSUAL, UNUSUAL},
    {"x-envoy-attempt-count", ATTEMPT_COUNT, STAYS_HERE},
    {"x-envoy-upstream-rq-timeout-ms", UPSTREAM_TIMEOUT, OTHER},
    {"x-envoy-expected-rq-timeout-ms", EXPECTED_TIMEOUT, OTHER},
    {"x-envoy-immediate-health-check-fail", OTHER, UNUSUAL},
};
enum { KNOWN_NAMES = sizeof(KNOWN) / sizeof(KNOWN[0]), LONGEST = sizeof("x-envoy-immediate-health-check-fail") - 1 };

static byte shorter_than[LONGEST + 2]; /* how many names of KNOWN are; so those of one length are found at once */

static void count_lengths(void)
{
    for (int length = 0; length <= LONGEST + 1; length++)
        while (shorter_than[length] < KNOWN_NAMES && strlen(KNOWN[shorter_than[length]].name) < (size_t)length)
            shorter_than[length]++;
}

static const Known *look_up(Slice name)
{
    static const Known other = {"", OTHER, OTHER};
    Py_ssize_t length = size(name);
    if (length <= LONGEST)
        for (int i = shorter_than[length]; i < shorter_than[length + 1]; i++)
            if (is_word(name, KNOWN[i].name, length))
                return &KNOWN[i];
    return &other;
}

typedef struct {
    PyObject *method; /* borrowed */
    Slice target, status_line;
    int status;
    long long length;
    int keep_alive, chunked, idempotency_key, for_repeated, dated;
    Slice request_id, traceparent, loop, retry_after, timeouts[2];
    int timeouts_given;
    unsigned seen; /* a bit for each meaning */
    Passed passed;
} Head;

static int has(const Head *head, enum meaning meaning) { return (head->seen & 1u << meaning) != 0; }

/* uri-host [ ":" port ], RFC 9110, section 7.2. An IPv6 address is rare. */
static int authority(Reader *reader)
{
    if (size(run(reader, HOST_NAME)) == 0)
        return 0;
    if (SKIP(reader, ":"))
        run(reader, DIGIT);
    return 1;
}

/* RFC 9112, section 3.2. The upstream gets a Host of ours in its place. */
static int host(const Field *field, Head *head)
{
    Reader reader = {field->value.from, field->value.to};
    head->passed.replaceable = *field;
    return authority(&reader) && reader.at == reader.end;
}

static int location(const Field *field, Head *head)
{
    head->passed.replaceable = *field;
    return 1;
}

/* RFC 9112, section 9.3: one option, and one that names no field. */
static int connection(const Field *field, Head *head)
{
    head->keep_alive = IS(field->value, "keep-alive");
    return (head->keep_alive || IS(field->value, "close")) && cut(&head->passed, field);
}

/* RFC 9112, section 6.2. Leading zeros and white space behind are the parser's: it writes the field anew. Fifteen digits
   overflow nothing, here or in any server. */
static int number(const Field *field, long long *into)
{
    Slice digits = field->raw;
    if (size(digits) < 1 || size(digits) > 15 || (digits.from[0] == '0' && size(digits) > 1))
        return 0;
    *into = 0;
    for (const byte *at = digits.from; at < digits.to; at++) {
        if (!(classes[*at] & DIGIT))
            return 0;
        *into = *into * 10 + (*at - '0');
    }
    return 1;
}

/* RFC 9112, section 7. Written as the parser would write it, so that the line may pass on as it is. */
static int request_coding(const Field *field, Head *head)
{
    Reader reader = {field->line.from, field->line.to};
    return head->chunked = SKIP(&reader, "\r\nTransfer-Encoding: chunked") && reader.at == reader.end;
}

/* The field stays here: how the app gets the body depends on its version of HTTP. */
static int response_coding(const Field *field, Head *head)
{
    head->chunked = IS(field->raw, "chunked");
    return head->chunked && cut(&head->passed, field);
}

/* Envoy: 1 is the first attempt. Each attempt of ours gets its own. */
static int attempt_count(const Field *field, Head *head)
{
    long long count = 0;
    if (!number(field, &count))
        return 0;
    head->for_repeated = count > 1;
    return cut(&head->passed, field);
}

static int timeout(const Field *field, Head *head)
{
    head->timeouts[head->timeouts_given++] = field->raw;
    return cut(&head->passed, field);
}

/* A value that is handed over and whose field passes on. An empty one is the parser's. */
static int note(Slice value, Slice *into)
{
    *into = value;
    return size(value) > 0;
}

static int take(enum meaning meaning, const Field *field, Head *head)
{
    switch (meaning) {
    case OTHER: return 1;
    case STAYS_HERE: return cut(&head->passed, field);
    case UNUSUAL: return 0;
    case CONNECTION: return connection(field, head);
    case CONTENT_LENGTH: return number(field, &head->length);
    case REQUEST_CODING: return request_coding(field, head);
    case RESPONSE_CODING: return response_coding(field, head);
    case HOST: return host(field, head);
    case REQUEST_ID: return note(field->value, &head->request_id);
    case TRACEPARENT: return note(field->value, &head->traceparent);
    case LOOP: return note(field->raw, &head->loop);
    case IDEMPOTENCY_KEY: return head->idempotency_key = 1;
    case UPSTREAM_TIMEOUT:
    case EXPECTED_TIMEOUT: return timeout(field, head);
    case ATTEMPT_COUNT: return attempt_count(field, head);
    case LOCATION: return location(field, head);
    case RETRY_AFTER: return note(field->value, &head->retry_after);
    case DATE: return head->dated = 1;
    }
    return 0;
}

/* All fields up to the empty line, which must be where the head ends. */
static int fields(Reader *reader, int of_request, Py_ssize_t most, Head *head)
{
    head->passed.from = reader->at - 2;
    for (Py_ssize_t count = 0; !SKIP(reader, "\r\n"); count++) {
        Field field;
        if (count >= most || !read_field(reader, &field))
            return 0;
        const Known *known = look_up(field.name);
        enum meaning meaning = of_request ? known->in_request : known->in_response;
        if (meaning > STAYS_HERE && has(head, meaning))
            return 0;
        head->seen |= 1u << meaning;
        if (!take(meaning, &field, head))
            return 0;
    }
    head->passed.to = reader->at - 4;
    return reader->at == reader->end;
}

/* Requests */

static const char *const METHOD_NAMES[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"};
enum { METHODS = sizeof(METHOD_NAMES) / sizeof(METHOD_NAMES[0]) };
static PyObject *methods[METHODS];

/* RFC 9110, section 9.1: a method is case-sensitive. */
static int method(Reader *reader, Head *head)
{
    Slice word = run(reader, TOKEN);
    for (int i = 0; i < METHODS; i++) {
        const char *name = METHOD_NAMES[i];
        if ((size_t)size(word) == strlen(name) && memcmp(word.from, name, strlen(name)) == 0) {
            head->method = methods[i];
            return 1;
        }
    }
    return 0;
}

/* RFC 9112, sections 3.2.1 and 3.2.2: origin-form, or absolute-form with http and a path. */
static int target(Reader *reader, Head *head)
{
    head->target.from = reader->at;
    if (SKIP(reader, "http://") && !authority(reader))
        return 0;
    if (reader->at == reader->end || *reader->at != '/')
        return 0;
    head->target.to = run(reader, TARGET).to;
    return 1;
}

/* RFC 9112, section 3. */
static int request_line(Reader *reader, Head *head)
{
    return method(reader, head) && SKIP(reader, " ") && target(reader, head) && SKIP(reader, " HTTP/1.1\r\n");
}

/* RFC 9112, section 6.3: Content-Length or Transfer-Encoding, never both; neither is no body. */
static int request_length(Head *head)
{
    if (head->chunked && has(head, CONTENT_LENGTH))
        return 0;
    if (head->chunked)
        head->length = CHUNKED;
    return 1;
}

static PyObject *timeouts(const Head *head)
{
    PyObject *items[2];
    for (int i = 0; i < head->timeouts_given; i++)
        items[i] = bytes_of(head->timeouts[i]);
    return tuple_of(items, head->timeouts_given);
}

/* ScannedRequest in _scan.pyi. */
static PyObject *request_found(const Head *head)
{
    PyObject *items[] = {
        Py_NewRef(head->method),
        bytes_of(head->target),
        bytes_of(head->passed.replaceable.value),
        PyLong_FromLongLong(head->length),
        truth(head->keep_alive),
        truth(head->idempotency_key),
        truth(head->for_repeated),
        bytes_or_none(head->request_id),
        bytes_or_none(head->traceparent),
        bytes_or_none(head->loop),
        timeouts(head),
        pieces(&head->passed),
    };
    return tuple_of(items, sizeof(items) / sizeof(items[0]));
}

/* Responses */

/* RFC 9112, section 4. Interim answers (1xx) are rare. */
static int status_line(Reader *reader, Head *head)
{
    if (!SKIP(reader, "HTTP/1.1"))
        return 0;
    head->status_line.from = reader->at;
    if (!SKIP(reader, " "))
        return 0;
    Slice digits = run(reader, DIGIT);
    if (size(digits) != 3 || digits.from[0] < '2' || digits.from[0] > '5' || !SKIP(reader, " "))
        return 0;
    head->status = (digits.from[0] - '0') * 100 + (digits.from[1] - '0') * 10 + (digits.from[2] - '0');
    head->status_line.to = run(reader, VALUE).to;
    return SKIP(reader, "\r\n");
}

/* RFC 9112, section 6.3, in its order. A 204 or 304 that says how a body is framed is left to the parser. */
static int response_length(Head *head, int answers_head)
{
    int has_length = has(head, CONTENT_LENGTH);
    int never_a_body = head->status == 204 || head->status == 304;
    if ((has_length && head->chunked) || (never_a_body && (has_length || head->chunked)))
        return 0;
    if (never_a_body || answers_head) {
        head->length = 0;
    } else if (head->chunked) {
        head->length = CHUNKED;
    } else if (!has_length) {
        head->length = UNTIL_CLOSE;
        head->keep_alive = 0;
    }
    return 1;
}

/* ScannedResponse in _scan.pyi. */
static PyObject *response_found(const Head *head)
{
    PyObject *items[] = {
        PyLong_FromLong(head->status),
        bytes_of(head->status_line),
        PyLong_FromLongLong(head->length),
        truth(head->keep_alive),
        truth(head->dated),
        truth(has(head, LOCATION)),
        bytes_or_none(head->retry_after),
        pieces(&head->passed),
    };
    return tuple_of(items, sizeof(items) / sizeof(items[0]));
}

/* The module */

/* Where to read, of a call's first argument. The bytes are the caller's as long as the call lasts. */
static int reader_of(PyObject *head, Reader *reader)
{
    if (!PyBytes_CheckExact(head)) {
        PyErr_SetString(PyExc_TypeError, "a head is bytes");
        return 0;
    }
    reader->at = (const byte *)PyBytes_AS_STRING(head);
    reader->end = reader->at + PyBytes_GET_SIZE(head);
    return 1;
}

static int are_so_many(Py_ssize_t count, Py_ssize_t wanted)
{
    if (count != wanted)
        PyErr_Format(PyExc_TypeError, "%zd arguments, and not %zd", wanted, count);
    return count == wanted;
}

/* Behind the first empty line from there on: where a head ends; 0 where it does not yet. bytes.find takes six times as
   long, as it looks at every byte. */
static PyObject *head_end(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Reader reader;
    if (!are_so_many(count, 2) || !reader_of(arguments[0], &reader))
        return NULL;
    Py_ssize_t since = PyLong_AsSsize_t(arguments[1]), end = 0;
    if (since == -1 && PyErr_Occurred())
        return NULL;
    const byte *start = reader.at;
    if (since < 0 || since > reader.end - reader.at)
        return PyLong_FromLong(0);
    for (reader.at += since; reader.end - reader.at >= 4; reader.at++) {
        reader.at = memchr(reader.at, '\r', (size_t)(reader.end - reader.at));
        if (reader.at == NULL)
            break;
        if (SKIP(&reader, "\r\n\r\n")) {
            end = reader.at - start;
            break;
        }
    }
    return PyLong_FromSsize_t(end);
}

static PyObject *scan_request(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Reader reader;
    Head head = {.keep_alive = 1};
    if (!are_so_many(count, 2) || !reader_of(arguments[0], &reader))
        return NULL;
    Py_ssize_t most = PyLong_AsSsize_t(arguments[1]);
    if (most == -1 && PyErr_Occurred())
        return NULL;
    int sure = request_line(&reader, &head) && fields(&reader, 1, most, &head) && has(&head, HOST)
               && request_length(&head);
    return sure ? request_found(&head) : Py_NewRef(Py_None);
}

static PyObject *scan_response(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Reader reader;
    Head head = {.keep_alive = 1};
    if (!are_so_many(count, 3) || !reader_of(arguments[0], &reader))
        return NULL;
    Py_ssize_t most = PyLong_AsSsize_t(arguments[2]);
    int answers_head = PyObject_IsTrue(arguments[1]);
    if ((most == -1 || answers_head < 0) && PyErr_Occurred())
        return NULL;
    int sure = status_line(&reader, &head) && fields(&reader, 0, most, &head)
               && response_length(&head, answers_head);
    return sure ? response_found(&head) : Py_NewRef(Py_None);
}

static PyMethodDef functions[] = {
    {"head_end", (PyCFunction)(void (*)(void))head_end, METH_FASTCALL, NULL},
    {"scan_request", (PyCFunction)(void (*)(void))scan_request, METH_FASTCALL, NULL},
    {"scan_response", (PyCFunction)(void (*)(void))scan_response, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "sidecar.proxy.http1._scan",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__scan(void)
{
    fill_classes();
    count_lengths();
    for (int i = 0; i < METHODS; i++)
        if ((methods[i] = PyUnicode_InternFromString(METHOD_NAMES[i])) == NULL)
            return NULL;
    return PyModule_Create(&module);
}
