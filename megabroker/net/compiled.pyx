# cython: language_level=3, binding=False, boundscheck=False, wraparound=False
"""One turn of many connections in one call: the compiled twin of the short way of produce requests.

For every connection that can be read and owes nothing but answers of this kind, ``Turn.take`` receives,
cuts frames and takes those that repeat a ``Shape``, as ``codec.framing``, ``protocols.kafka.produce_template``
and ``codec.header.validate_produce`` would. The batches of one partition, of whatever connections, are joined
into one ``Run``, which is appended as a whole and answered as a whole. Everything else, and every frame that is
not like its shape in every byte that repeats, whose batch is not beyond doubt, or for which there is no room,
is left to Python with what came after it; so nothing is refused here, and what the broker says does not
depend on whether this module is there.

Safety: the interpreter's lock is held throughout, every length is checked before what it measures is read,
memory belongs to Python objects or is freed with one, and a buffer that was given away is not kept.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from crc32c import crc32c as crc_of_many

__all__ = ["Connection", "Run", "Shape", "Turn"]

cdef extern from "<sys/socket.h>" nogil:
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    Py_ssize_t recv(int fd, void *data, size_t size, int flags)
    Py_ssize_t send(int fd, const void *data, size_t size, int flags)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epoll, epoll_event *events, int count, int timeout_ms)

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    static inline uint32_t get32(const uint8_t *p) {
        uint32_t v;
        memcpy(&v, p, 4);
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        v = __builtin_bswap32(v);
    #endif
        return v;
    }

    static inline uint64_t get64(const uint8_t *p) {
        return (uint64_t)get32(p) << 32 | get32(p + 4);
    }

    static inline void put32(uint8_t *p, uint32_t v) {
        p[0] = (uint8_t)(v >> 24);
        p[1] = (uint8_t)(v >> 16);
        p[2] = (uint8_t)(v >> 8);
        p[3] = (uint8_t)v;
    }

    static inline void put64(uint8_t *p, uint64_t v) {
        put32(p, (uint32_t)(v >> 32));
        put32(p + 4, (uint32_t)v);
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    __attribute__((target("sse4.2")))
    static uint32_t crc_by_instruction(const uint8_t *p, size_t size) {
        uint64_t crc = 0xffffffffu;
        for (; size >= 8; p += 8, size -= 8) {
            uint64_t word;
            memcpy(&word, p, 8);
            crc = __builtin_ia32_crc32di(crc, word);
        }
        for (; size; p++, size--)
            crc = __builtin_ia32_crc32qi((uint32_t)crc, *p);
        return (uint32_t)crc ^ 0xffffffffu;
    }
    static inline int has_crc_instruction(void) { return __builtin_cpu_supports("sse4.2") != 0; }
    #else
    static uint32_t crc_by_instruction(const uint8_t *p, size_t size) { return 0; }
    static inline int has_crc_instruction(void) { return 0; }
    #endif
    """
    uint32_t get32(const uint8_t *p) nogil
    uint64_t get64(const uint8_t *p) nogil
    void put32(uint8_t *p, uint32_t v) nogil
    void put64(uint8_t *p, uint64_t v) nogil
    uint32_t crc_by_instruction(const uint8_t *p, size_t size) nogil
    int has_crc_instruction() nogil

cdef enum:
    AT_ONCE = 512
    HEADER_BYTES = 61
    LENGTH_END = 12
    CRC_POS = 17
    CRC_START = 21
    MIN_RECORD_BYTES = 7
    API_BYTES = 4
    HEAD_POS = 8
    TAG_BYTES = 3
    MIN_FRAME_BYTES = 8
    FIRST_BYTES = 4096
    MAX_RUN_BYTES = 1 << 20
    # Beyond it the package's CRC, which works on three words at a time, is worth the call.
    FEW_BYTES = 2048
    # A connection may have so many runs under way before Python takes what it sends, and counts it.
    MAX_MEMBERS = 16
    MAX_SHAPES = 16

cdef bint _has_crc = has_crc_instruction()


cdef uint32_t crc32c(const uint8_t *data, Py_ssize_t size) except? 0:
    if _has_crc and size <= FEW_BYTES:
        return crc_by_instruction(data, <size_t>size)
    return <uint32_t>crc_of_many(<const uint8_t[:size]>data)


cdef struct Batch:
    int32_t correlation_id
    int32_t first  # offset, counted from the run's
    int32_t position  # where in the buffer it begins
    int32_t last_delta
    int64_t max_timestamp


cdef class Shape:
    """What the requests of one connection for one topic have in common, and the answer they get.

    Args:
        api: key and version.
        head: what follows the correlation id, up to the partition's index.
        flexible: whether the batch's length is a varint and tags follow.
        answer: of any request; its numbers are put in.
        index_at, base_at, start_at: where in it the partition's index, the base offset and, unless negative, the
            log's start offset stand.
        find: called with an index; gives where its batches go, else None.
        refusal: called with correlation id, index and error; gives the answer's bytes.
        max_request_bytes: longest frame.
    """

    cdef bytes api, head, answer
    cdef bint flexible
    cdef Py_ssize_t index_at, base_at, start_at, max_request_bytes
    cdef object find, refusal
    cdef dict targets

    def __init__(self, bytes api, bytes head, bint flexible, bytes answer, Py_ssize_t index_at,
                 Py_ssize_t base_at, Py_ssize_t start_at, find, refusal, Py_ssize_t max_request_bytes):
        cdef Py_ssize_t size = len(answer)
        if len(api) != API_BYTES or not (8 <= index_at <= size - 4 and 8 <= base_at <= size - 8):
            raise ValueError("no shape")
        if start_at > size - 8:
            raise ValueError("no shape")
        self.api, self.head, self.flexible, self.answer = api, head, flexible, answer
        self.index_at, self.base_at, self.start_at = index_at, base_at, start_at
        self.find, self.refusal, self.max_request_bytes = find, refusal, max_request_bytes
        self.targets = {}

    cdef bint repeats(self, Shape other):
        return self.api == other.api and self.head == other.head

    cdef object target(self, int32_t index):
        target = self.targets.get(index)
        if target is None:
            target = self.find(index)
            if target is not None:
                self.targets[index] = target
        return target

    cdef Py_ssize_t match(self, const uint8_t *frame, Py_ssize_t size, Py_ssize_t *end) noexcept:
        """Return where in a frame the batch begins and, by ``end``, ends; -1 if it is another request."""
        cdef Py_ssize_t head = PyBytes_GET_SIZE(self.head)
        cdef Py_ssize_t pos = HEAD_POS + head + 4
        cdef uint64_t length = 0
        cdef int shift = 0
        if size < pos + 4 or size > self.max_request_bytes:
            return -1
        if memcmp(frame, PyBytes_AS_STRING(self.api), API_BYTES):
            return -1
        if memcmp(frame + HEAD_POS, PyBytes_AS_STRING(self.head), <size_t>head):
            return -1
        if not self.flexible:
            end[0] = size
            pos += 4
            return pos if <int64_t><int32_t>get32(frame + pos - 4) == size - pos else -1
        while True:
            if shift > 28 or pos >= size:
                return -1
            length |= <uint64_t>(frame[pos] & 0x7F) << shift
            pos += 1
            if not frame[pos - 1] & 0x80:
                break
            shift += 7
        if size - pos < TAG_BYTES or length != <uint64_t>(size - pos - TAG_BYTES) + 1:
            return -1
        if frame[size - 3] or frame[size - 2] or frame[size - 1]:
            return -1
        end[0] = size - TAG_BYTES
        return pos


cdef int is_plain(const uint8_t *batch, Py_ssize_t size) except -1:
    """Whether a batch is one that ``validate_produce`` takes, of no idempotent producer."""
    cdef uint32_t attributes
    cdef int32_t count, last_delta
    if size < HEADER_BYTES or batch[16] != 2:
        return 0
    attributes = get32(batch + CRC_START) >> 16
    last_delta = <int32_t>get32(batch + 23)
    count = <int32_t>get32(batch + 57)
    if <int64_t><int32_t>get32(batch + 8) != size - LENGTH_END:
        return 0
    if count <= 0 or last_delta != count - 1 or attributes & 0x38 or (attributes & 7) > 4:
        return 0
    if not attributes & 7 and <int64_t>count * MIN_RECORD_BYTES > size - HEADER_BYTES:
        return 0
    if <int64_t>get64(batch + 43) != -1:
        return 0
    return crc32c(batch + CRC_START, size - CRC_START) == get32(batch + CRC_POS)


cdef class Run:
    """Batches in a row, joined, that are to be appended to one partition together.

    Call it with None when they are stored, or with the error why they are not: it answers.

    Attributes:
        target: where they go.
        records: how many there are in all of them.
        size_bytes: of all of them.
        received_bytes: of the requests that they came in.
        sent_bytes: of answers that went out past what counts all others.
        began: for the target.
        base_offset: of the first; given by ``stamp``.
    """

    cdef readonly object target
    cdef readonly int64_t records
    cdef readonly int64_t received_bytes, sent_bytes
    cdef public double began
    cdef readonly int64_t base_offset
    cdef bytearray buffer
    cdef Py_ssize_t size
    cdef Batch *batches
    cdef int count, room
    cdef int64_t max_records, max_bytes, max_batch_bytes, earliest_ms, latest_ms
    cdef list members

    def __cinit__(self):
        self.batches = NULL
        self.count = self.room = 0

    def __init__(self, target, room):
        self.target = target
        self.max_records, self.max_bytes, self.max_batch_bytes, self.earliest_ms, self.latest_ms = room
        self.max_records = min(self.max_records, 0x7FFFFFFF)
        self.max_bytes = min(self.max_bytes, MAX_RUN_BYTES)
        self.buffer = bytearray()
        self.members = []

    def __dealloc__(self):
        PyMem_Free(self.batches)

    @property
    def size_bytes(self):
        return self.size

    @property
    def requests(self):
        """How many requests there are, each with a batch."""
        return self.count

    @property
    def data(self):
        """The batches, writable; for the log to keep."""
        return self.buffer

    @property
    def connections(self):
        """Who is to be answered."""
        return [(<Member>member).of.protocol for member in self.members]

    cdef bint fits(self, const uint8_t *batch, Py_ssize_t size) noexcept:
        cdef int64_t base_ms = <int64_t>get64(batch + 27)
        return (
            size <= self.max_batch_bytes
            and not 0 <= base_ms < self.earliest_ms
            and <int64_t>get64(batch + 35) <= self.latest_ms
            and self.size + size <= self.max_bytes
            and self.records + <int32_t>get32(batch + 57) <= self.max_records
        )

    cdef int add(self, int32_t correlation_id, const uint8_t *batch, Py_ssize_t size, Py_ssize_t hint) except -1:
        """Take a batch that fits; ``hint`` bytes may come from where it is."""
        cdef Batch *one
        cdef Py_ssize_t capacity = len(self.buffer)
        if self.size + size > capacity:
            capacity = max(2 * capacity, self.size + size, hint, FIRST_BYTES)
            PyByteArray_Resize(self.buffer, capacity)
        if self.count == self.room:
            one = <Batch *>PyMem_Realloc(self.batches, <size_t>(2 * self.room + 16) * sizeof(Batch))
            if one is NULL:
                raise MemoryError()
            self.batches = one
            self.room = 2 * self.room + 16
        memcpy(PyByteArray_AS_STRING(self.buffer) + self.size, batch, <size_t>size)
        one = &self.batches[self.count]
        one.correlation_id = correlation_id
        one.first = <int32_t>self.records
        one.position = <int32_t>self.size
        one.last_delta = <int32_t>get32(batch + 23)
        one.max_timestamp = <int64_t>get64(batch + 35)
        self.count += 1
        self.size += size
        self.records += <int64_t>one.last_delta + 1
        return 0

    def stamp(self, int64_t base_offset, int32_t leader_epoch):
        """Write base offsets and leader epoch into all batches."""
        if self.buffer is None or len(self.buffer) != self.size:
            raise ValueError("the batches are given away")
        cdef uint8_t *data = <uint8_t *>PyByteArray_AS_STRING(self.buffer)
        cdef uint8_t *batch
        cdef int at
        self.base_offset = base_offset
        for at in range(self.count):
            batch = data + self.batches[at].position
            put64(batch, <uint64_t>(base_offset + self.batches[at].first))
            put32(batch + LENGTH_END, <uint32_t>leader_epoch)

    def note(self, segment, Py_ssize_t position, int64_t interval):
        """Have a segment note all batches at ``position`` as it would one after the other."""
        cdef int64_t latest = segment.max_timestamp
        cdef int64_t unindexed = segment.unindexed
        cdef Py_ssize_t size
        cdef Batch *one
        cdef int at
        for at in range(self.count):
            one = &self.batches[at]
            size = (self.batches[at + 1].position if at + 1 < self.count else self.size)
            size -= one.position
            if one.max_timestamp > latest or unindexed > interval:
                segment.unindexed = unindexed
                segment.note(
                    position + one.position,
                    size,
                    self.base_offset + one.first + one.last_delta,
                    one.max_timestamp,
                    interval,
                )
                latest = segment.max_timestamp
                unindexed = segment.unindexed
            else:
                unindexed += size
        segment.unindexed = unindexed

    def sizes(self):
        """Return how long each batch is."""
        cdef list starts = [self.batches[at].position for at in range(self.count)] + [self.size]
        return [starts[at + 1] - starts[at] for at in range(self.count)]

    cdef int close(self) except -1:
        """Nothing more is added."""
        PyByteArray_Resize(self.buffer, self.size)
        return 0

    def given(self):
        """The buffer is somebody else's now."""
        self.buffer = None

    def __call__(self, error):
        """Answer all requests whose batches these are."""
        cdef int64_t start_offset = -1
        cdef Member member
        cdef list members = self.members
        self.members = []
        if error is None:
            start_offset = self.target.partition.start_offset
        try:
            for member in members:
                if member.of.protocol.closed:
                    continue
                try:
                    if error is None:
                        self.sent_bytes += member.of.answer(member, self.answers(member, start_offset))
                    else:
                        member.of.protocol._filled(member, self.refusals(member, error))
                except Exception:
                    self.target.failed([member.of.protocol])
        finally:
            self.target.answered(self)

    cdef bytes answers(self, Member member, int64_t start_offset):
        cdef Shape shape = member.shape
        cdef Py_ssize_t size = PyBytes_GET_SIZE(shape.answer)
        cdef bytes made = PyBytes_FromStringAndSize(NULL, size * member.count)
        cdef uint8_t *answer = <uint8_t *>PyBytes_AS_STRING(made)
        cdef Batch *one
        cdef int at
        for at in range(member.first, member.first + member.count):
            one = &self.batches[at]
            memcpy(answer, PyBytes_AS_STRING(shape.answer), <size_t>size)
            put32(answer + 4, <uint32_t>one.correlation_id)
            put32(answer + shape.index_at, <uint32_t>member.index)
            put64(answer + shape.base_at, <uint64_t>(self.base_offset + one.first))
            if shape.start_at >= 0:
                put64(answer + shape.start_at, <uint64_t>start_offset)
            answer += size
        return made

    cdef list refusals(self, Member member, error):
        cdef list parts = []
        for at in range(member.first, member.first + member.count):
            parts.extend(member.shape.refusal(self.batches[at].correlation_id, member.index, error))
        member.parts = parts
        return parts


cdef class Member:
    """The place of one connection's part of a run in the order of its answers; see ``net.wire.Answer``."""

    cdef public object parts
    cdef readonly int size_bytes
    cdef Connection of
    cdef Shape shape
    cdef int32_t index
    cdef int first, count


cdef class Connection:
    """What is needed of a connection to read it here.

    Args:
        transport: its ``DirectServer``.
        protocol: its ``BrokerConnection``, whose ``_gate`` says whether requests have to wait.
    """

    cdef readonly object transport, protocol
    cdef object reader, slots, factory, gate
    cdef list shapes
    cdef int fd

    def __init__(self, transport, protocol):
        self.transport, self.protocol, self.shapes = transport, protocol, []
        self.reader, self.slots, self.factory = protocol.reader, protocol._slots, protocol.factory
        self.gate = protocol._gate
        self.fd = transport.fileno()

    def expect(self, Shape shape not None):
        """Take requests of a shape from now on, beside others that were lately expected."""
        others = [other for other in self.shapes if not shape.repeats(other)]
        self.shapes = [shape, *others[:MAX_SHAPES - 1]]

    cdef bint is_idle(self) except -1:
        """Whether what comes begins a frame that may be taken at once."""
        reader = self.reader
        return (
            not self.protocol._stopped
            and not self.gate.closed
            and reader._frame is None
            and reader._data is None
            and not reader._prefix
            and len(self.slots) < MAX_MEMBERS
        )

    cdef Py_ssize_t answer(self, Member member, bytes made) except -1:
        """Send answers, at once if nothing is before or behind them; return how many bytes went so."""
        protocol, transport, slots = self.protocol, self.transport, self.slots
        cdef Py_ssize_t size = PyBytes_GET_SIZE(made)
        cdef Py_ssize_t sent
        if (
            len(slots) != 1
            or slots[0] is not member
            or protocol._ready
            or transport._parts
            or not transport.connected
            or transport.disconnecting
            or transport._writeDisconnected
        ):
            member.parts = (made,)
            protocol._filled(member, member.parts)
            return 0
        slots.popleft()
        sent = send(self.fd, PyBytes_AS_STRING(made), <size_t>size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < size:
            # The socket is full or broken, which the transport finds out again.
            sent = sent if sent > 0 else 0
            protocol.answer((made[sent:],))
        elif protocol._stopped or protocol._input_closed:
            protocol.answer(())
        return sent


cdef double now() noexcept:
    """Return seconds of a clock that nobody sets."""
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return at.tv_sec + at.tv_nsec * 1e-9


cdef class Turn:
    """Reads all connections of one epoll that can be read.

    Args:
        epoll: its descriptor.
        connections: by their descriptors, what reads them; ``quick`` is a ``Connection`` or None.
        scratch: receives what comes.
        read: called with a connection that is to be read by Python.
        take: called with a connection and bytes received from it, to be taken by Python.
        lost: called with a connection at its end, and whether the peer has closed it.
        failed: called with a connection and what was raised while it was read.
        seconds: how long connections are read before those that were are answered; see ``net.polling``.
    """

    cdef epoll_event events[AT_ONCE]
    cdef int next, count  # those from the one up to the other are left of a turn that had no time for them
    cdef double seconds
    cdef int epoll
    cdef dict connections, runs
    cdef object scratch, read, take_rest, lost, failed
    cdef uint8_t *data
    cdef Py_ssize_t capacity
    cdef readonly int64_t taken

    def __init__(self, int epoll, dict connections not None, scratch not None, read, take_rest, lost, failed,
                 double seconds):
        cdef uint8_t[::1] view = scratch
        if not view.shape[0]:
            raise ValueError("no scratch")
        self.epoll, self.connections, self.scratch = epoll, connections, scratch
        self.data, self.capacity = &view[0], view.shape[0]
        self.read, self.take_rest, self.lost, self.failed = read, take_rest, lost, failed
        self.runs = {}
        self.seconds = seconds
        self.next = self.count = 0

    def take(self):
        """Read the connections that are ready, as far as there is time; append what has come."""
        cdef double deadline = now() + self.seconds
        if self.next >= self.count:
            self.next = 0
            self.count = epoll_wait(self.epoll, self.events, AT_ONCE, 0)
            if self.count < 0:
                self.count = 0
                if errno == EINTR:
                    return
                raise OSError(errno, "epoll_wait")
        try:
            while self.next < self.count:
                connection = self.connections.get(self.events[self.next].data.fd)
                self.next += 1
                if connection is None:
                    continue  # closed by one before it
                try:
                    quick = connection.quick
                    if quick is None or not (<Connection?>quick).is_idle():
                        self.append()
                        self.read(connection)
                    else:
                        self.receive(connection, <Connection>quick)
                except Exception as error:
                    self.failed(connection, error)
                if now() > deadline:
                    break
        finally:
            self.append()

    cdef int receive(self, transport, Connection connection) except -1:
        cdef Py_ssize_t size = recv(connection.fd, self.data, <size_t>self.capacity, MSG_DONTWAIT)
        cdef Py_ssize_t taken
        if size <= 0:
            if size < 0 and (errno == EAGAIN or errno == EINTR):
                return 0
            self.append()
            self.lost(transport, size == 0)
            return 0
        connection.protocol.active_tick = connection.factory.tick
        taken = self.cut(connection, size)
        if taken < size:
            self.append()
            self.take_rest(transport, self.scratch[taken:size])
        return 0

    cdef Py_ssize_t cut(self, Connection connection, Py_ssize_t size) except -1:
        """Take as many whole frames as are of one of its shapes; return where the rest begins."""
        cdef Shape shape = None, last = None
        cdef Py_ssize_t pos = 0, length, start, end = 0
        cdef const uint8_t *frame
        cdef int32_t index
        cdef Run run = None
        cdef Member member = None
        while size - pos >= 4:
            frame = self.data + pos + 4
            length = <int32_t>get32(self.data + pos)
            if length < MIN_FRAME_BYTES or length > size - pos - 4:
                break
            start = -1 if last is None else last.match(frame, length, &end)
            if start < 0:
                for shape in connection.shapes:
                    if shape is not last:
                        start = shape.match(frame, length, &end)
                        if start >= 0:
                            last, member = shape, None
                            break
            shape = last
            if start < 0 or not is_plain(frame + start, end - start):
                break
            index = <int32_t>get32(frame + HEAD_POS + PyBytes_GET_SIZE(shape.head))
            if member is None or member.index != index:
                run = self.run_for(shape, index)
                member = None
            if run is not None and run.count and not run.fits(frame + start, end - start):
                self.append()
                run = self.run_for(shape, index)
                member = None
            if run is None or not run.fits(frame + start, end - start):
                break
            run.add(<int32_t>get32(frame + 4), frame + start, end - start, size - pos if not pos else 0)
            if member is None:
                member = Member()
                member.of, member.shape, member.index, member.first = connection, shape, index, run.count - 1
                run.members.append(member)
                connection.slots.append(member)
            member.count += 1
            run.received_bytes += 4 + length
            self.taken += 1
            pos += 4 + length
        return pos

    cdef Run run_for(self, Shape shape, int32_t index):
        """Return the run under way for a partition, or a new one; None if it takes none now."""
        cdef Run run
        target = shape.target(index)
        if target is None:
            return None
        run = self.runs.get(target)
        if run is None:
            room = target.open()
            if room is None:
                return None
            run = Run(target, room)
            self.runs[target] = run
        return run

    cdef int append(self) except -1:
        """Append all that has been taken; after it Python may do what it likes with the partitions."""
        cdef Run run
        if not self.runs:
            return 0
        runs, self.runs = self.runs, {}
        for run in runs.values():
            if run.count:
                run.close()
                run.target.append(run)
        return 0
