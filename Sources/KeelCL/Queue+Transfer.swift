internal import COpenCL

/// A number that OpenCL C knows under the same representation: safe to read from device bytes, whatever they are.
public protocol DeviceScalar: BitwiseCopyable, Sendable {}
extension Float: DeviceScalar {}
extension Double: DeviceScalar {}
extension Int8: DeviceScalar {}
extension UInt8: DeviceScalar {}
extension Int16: DeviceScalar {}
extension UInt16: DeviceScalar {}
extension Int32: DeviceScalar {}
extension UInt32: DeviceScalar {}
extension Int64: DeviceScalar {}
extension UInt64: DeviceScalar {}

// Offsets and counts are in bytes. A transfer of zero bytes does nothing: OpenCL itself refuses it.
extension Queue {
  /// Copies `bytes` to the device, at `offset`, and waits until it is done.
  public func write(_ buffer: Buffer, bytes: UnsafeRawBufferPointer, offset: Int = 0) throws(CLError) {
    try inside(buffer, offset, bytes.count, "clEnqueueWriteBuffer")
    guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
    let status = clEnqueueWriteBuffer(
      handle, buffer.handle, cl_bool(CL_TRUE), offset, bytes.count, base, 0, nil, nil)
    try check(status, "clEnqueueWriteBuffer", detail: range(buffer, offset, bytes.count))
  }

  /// Copies an array to the device, at byte `offset`, and waits until it is done.
  public func write<T: DeviceScalar>(_ buffer: Buffer, _ values: [T], offset: Int = 0) throws(CLError) {
    let result = values.withUnsafeBytes { raw in
      Result { () throws(CLError) in try self.write(buffer, bytes: raw, offset: offset) }
    }
    try result.get()
  }

  /// Copies bytes to the device, at `offset`, and waits until it is done.
  public func write(_ buffer: Buffer, bytes: [UInt8], offset: Int = 0) throws(CLError) {
    try write(buffer, bytes, offset: offset)
  }

  /// Fills `bytes` from the device, starting at `offset`; waits for the commands before it and for itself.
  public func read(_ buffer: Buffer, into bytes: UnsafeMutableRawBufferPointer, offset: Int = 0) throws(CLError) {
    try inside(buffer, offset, bytes.count, "clEnqueueReadBuffer")
    guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
    let status = clEnqueueReadBuffer(
      handle, buffer.handle, cl_bool(CL_TRUE), offset, bytes.count, base, 0, nil, nil)
    try check(status, "clEnqueueReadBuffer", detail: range(buffer, offset, bytes.count))
  }

  /// Reads `byteCount` bytes from `offset`; nil reads to the end of the buffer.
  public func read(_ buffer: Buffer, offset: Int = 0, byteCount: Int? = nil) throws(CLError) -> [UInt8] {
    try read(buffer, as: UInt8.self, count: byteCount, offset: offset)
  }

  /// Reads `count` values from byte `offset`; nil reads as many as there are to the end of the buffer.
  public func read<T: DeviceScalar>(
    _ buffer: Buffer, as type: T.Type, count: Int? = nil, offset: Int = 0
  ) throws(CLError) -> [T] {
    let stride = MemoryLayout<T>.stride
    try inside(buffer, offset, 0, "clEnqueueReadBuffer")
    let count = count ?? (buffer.byteCount - offset) / stride
    let (byteCount, overflow) = count.multipliedReportingOverflow(by: stride)
    // Checked before the array is made, so that a wrong count cannot ask the host for absurd memory.
    try inside(buffer, offset, overflow ? Int.max : byteCount, "clEnqueueReadBuffer")
    var failure: CLError?
    let values = [T](unsafeUninitializedCapacity: count) { storage, initialized in
      do throws(CLError) {
        try read(buffer, into: UnsafeMutableRawBufferPointer(storage), offset: offset, byteCount: byteCount)
        initialized = count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return values
  }

  /// Swift may round an array's capacity up; only the bytes asked for are read.
  private func read(
    _ buffer: Buffer, into storage: UnsafeMutableRawBufferPointer, offset: Int, byteCount: Int
  ) throws(CLError) {
    try read(buffer, into: UnsafeMutableRawBufferPointer(rebasing: storage[..<byteCount]), offset: offset)
  }

  /// Copies on the device, in order with the launches; does not wait. Overlapping ranges are refused.
  public func copy(
    from source: Buffer, sourceOffset: Int = 0, to destination: Buffer, destinationOffset: Int = 0, byteCount: Int
  ) throws(CLError) {
    try inside(source, sourceOffset, byteCount, "clEnqueueCopyBuffer")
    try inside(destination, destinationOffset, byteCount, "clEnqueueCopyBuffer")
    guard byteCount > 0 else { return }
    let status = clEnqueueCopyBuffer(
      handle, source.handle, destination.handle, sourceOffset, destinationOffset, byteCount, 0, nil, nil)
    try check(
      status, "clEnqueueCopyBuffer",
      detail: "from \(range(source, sourceOffset, byteCount)) to \(range(destination, destinationOffset, byteCount))")
  }

  /// Repeats `pattern` (1, 2, 4 … 128 bytes) over `byteCount` bytes from `offset`, both multiples of its length;
  /// nil fills to the end. In order with the launches; does not wait.
  public func fill(
    _ buffer: Buffer, pattern: [UInt8] = [0], offset: Int = 0, byteCount: Int? = nil
  ) throws(CLError) {
    try inside(buffer, offset, 0, "clEnqueueFillBuffer")
    let byteCount = byteCount ?? buffer.byteCount - offset
    try inside(buffer, offset, byteCount, "clEnqueueFillBuffer")
    let size = pattern.count
    guard size > 0, size <= 128, size & (size - 1) == 0, offset % size == 0, byteCount % size == 0 else {
      throw CLError(
        call: "clEnqueueFillBuffer", code: CL_INVALID_VALUE,
        detail: "expects a pattern of 1, 2, 4 … 128 bytes that divides offset and count, "
          + "got \(size) bytes for \(range(buffer, offset, byteCount))")
    }
    guard byteCount > 0 else { return }
    let status = clEnqueueFillBuffer(handle, buffer.handle, pattern, size, offset, byteCount, 0, nil, nil)
    try check(status, "clEnqueueFillBuffer", detail: range(buffer, offset, byteCount))
  }

  func range(_ buffer: Buffer, _ offset: Int, _ byteCount: Int) -> String {
    "\(byteCount) bytes at offset \(offset) of \(buffer.byteCount)"
  }

  func inside(_ buffer: Buffer, _ offset: Int, _ byteCount: Int, _ call: StaticString) throws(CLError) {
    guard offset >= 0, byteCount >= 0, byteCount <= buffer.byteCount, offset <= buffer.byteCount - byteCount else {
      throw CLError(
        call: "\(call)", code: CL_INVALID_VALUE,
        detail: "expects a range inside the buffer, got \(range(buffer, offset, byteCount))")
    }
  }
}
