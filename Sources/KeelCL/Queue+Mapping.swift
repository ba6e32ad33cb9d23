internal import COpenCL

extension Queue {
  /// Has `body` write bytes of a buffer: where they lie, if the device's memory is the host's, else in memory of the
  /// driver's that is copied. Waits for the commands before, and until the device has what was written.
  ///
  /// Other queues may work meanwhile, on other buffers. What `body` leaves out, or throws in the middle of, has no
  /// defined value afterwards.
  /// - Parameters:
  ///   - offset: of the first byte.
  ///   - byteCount: 0 does nothing.
  public func write(
    _ buffer: Buffer, offset: Int = 0, byteCount: Int, by body: (inout MutableRawSpan) throws -> Void
  ) throws {
    try inside(buffer, offset, byteCount, "clEnqueueMapBuffer")
    guard byteCount > 0 else { return }
    var status: cl_int = 0
    let flags = cl_map_flags(CL_MAP_WRITE_INVALIDATE_REGION)
    let address = clEnqueueMapBuffer(
      handle, buffer.handle, cl_bool(CL_TRUE), flags, offset, byteCount, 0, nil, nil, &status)
    try check(status, "clEnqueueMapBuffer", detail: range(buffer, offset, byteCount))
    guard let address else {
      throw CLError(
        call: "clEnqueueMapBuffer", code: CL_MAP_FAILURE, detail: range(buffer, offset, byteCount))
    }
    let outcome = Result {
      var span = UnsafeMutableRawBufferPointer(start: address, count: byteCount).mutableBytes
      try body(&span)
    }
    try check(
      clEnqueueUnmapMemObject(handle, buffer.handle, address, 0, nil, nil), "clEnqueueUnmapMemObject",
      detail: range(buffer, offset, byteCount))
    try finish()
    try outcome.get()
  }
}
