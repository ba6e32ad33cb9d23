internal import COpenCL

/// Memory of the host that queues copy to and from while the host goes on.
///
/// A copy is under way until it has been waited for: whoever asks for the bytes or changes them waits, and so does the
/// release of the memory.
public final class HostMemory {
  /// Its size.
  public let byteCount: Int
  private let bytes: UnsafeMutableRawBufferPointer
  /// The last copy to or from it.
  private var transfer: Event?

  /// Bytes of no defined value.
  public init(byteCount: Int) {
    self.byteCount = max(byteCount, 0)
    bytes = .allocate(byteCount: max(byteCount, 1), alignment: 64)
  }

  deinit {
    // A copy that failed is over, too.
    try? transfer?.wait()
    bytes.deallocate()
  }

  /// Waits for the last copy. Throws what it failed with, whenever it is asked until there is another one: what a read
  /// that failed has left is of no defined value.
  public func wait() throws(CLError) {
    try transfer?.wait()
    transfer = nil
  }

  /// Waits, and takes the values from the first byte on.
  ///
  /// - Throws: values that are more than the memory holds, or what the last copy failed with.
  public func store<T: DeviceScalar>(_ values: [T]) throws(CLError) {
    try inside(0, values.count * MemoryLayout<T>.stride)
    try wait()
    values.withUnsafeBytes { bytes.copyMemory(from: $0) }
  }

  /// Waits, and gives the bytes of a range.
  ///
  /// - Throws: a range that is not inside, or what the last copy failed with.
  public func bytes(at offset: Int = 0, count: Int) throws(CLError) -> [UInt8] {
    try inside(offset, count)
    try wait()
    return Array(bytes[offset..<offset + count])
  }

  private func inside(_ offset: Int, _ count: Int) throws(CLError) {
    guard offset >= 0, count >= 0, count <= byteCount, offset <= byteCount - count else {
      throw CLError(
        call: "HostMemory", code: CL_INVALID_VALUE,
        detail: "expects a range inside \(byteCount) bytes, got \(count) bytes at offset \(offset)")
    }
  }

  func copy(
    by queue: Queue, _ call: StaticString, _ enqueue: (UnsafeMutableRawPointer, inout cl_event?) -> cl_int
  ) throws(CLError) {
    guard let base = bytes.baseAddress, byteCount > 0 else { return }
    // One queue keeps its copies in order; those of two would not know of each other.
    if let transfer, transfer.queue !== queue { try wait() }
    var event: cl_event?
    try check(enqueue(base, &event), call, detail: "\(byteCount) bytes")
    transfer = event.map { Event($0, queue: queue) }
  }
}

extension Queue {
  /// Copies the whole memory to the device, at byte `offset`, in order with the launches; does not wait.
  public func write(_ buffer: Buffer, from memory: HostMemory, offset: Int = 0) throws(CLError) {
    try inside(buffer, offset, memory.byteCount, "clEnqueueWriteBuffer")
    try memory.copy(by: self, "clEnqueueWriteBuffer") { base, event in
      clEnqueueWriteBuffer(
        handle, buffer.handle, cl_bool(CL_FALSE), offset, memory.byteCount, base, 0, nil, &event)
    }
  }

  /// Fills the whole memory from the device, from byte `offset` on, in order with the launches; does not wait.
  public func read(_ buffer: Buffer, into memory: HostMemory, offset: Int = 0) throws(CLError) {
    try inside(buffer, offset, memory.byteCount, "clEnqueueReadBuffer")
    try memory.copy(by: self, "clEnqueueReadBuffer") { base, event in
      clEnqueueReadBuffer(
        handle, buffer.handle, cl_bool(CL_FALSE), offset, memory.byteCount, base, 0, nil, &event)
    }
  }

  /// Has the device begin with the commands given so far, where the driver would gather them; does not wait.
  public func flush() throws(CLError) { try check(clFlush(handle), "clFlush", context.device.name) }
}
