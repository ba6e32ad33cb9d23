internal import COpenCL
import Foundation

/// Device memory, or a slice of it. A slice keeps the whole alive.
// Sendable unchecked: an immutable handle; the contents are ordered by the queue, not by Swift.
public final class Buffer: @unchecked Sendable {
  let handle: cl_mem
  /// Where it lives.
  public let context: Context
  /// Its size.
  public let byteCount: Int
  /// The buffer that this one is a slice of.
  public let parent: Buffer?
  /// Where a slice begins in `parent`; 0 for a whole buffer.
  public let byteOffset: Int

  /// Allocates `byteCount` bytes, readable and writable by kernels; the contents are undefined.
  ///
  /// - Throws: `CLError` for zero bytes (OpenCL has no empty buffer), and where the device refuses the size.
  public init(context: Context, byteCount: Int) throws(CLError) {
    guard byteCount > 0 else {
      throw CLError(
        call: "clCreateBuffer", code: CL_INVALID_BUFFER_SIZE, detail: "expects at least 1 byte, got \(byteCount)")
    }
    self.context = context
    self.byteCount = byteCount
    parent = nil
    byteOffset = 0
    if let pages = HugePages(byteCount: byteCount, for: context.device), let buffer = pages.buffer(in: context) {
      handle = buffer
      return
    }
    var status: cl_int = 0
    let buffer = clCreateBuffer(context.handle, cl_mem_flags(CL_MEM_READ_WRITE), byteCount, nil, &status)
    handle = try created(
      buffer, status, "clCreateBuffer",
      detail: "\(byteCount) bytes, device limit \(context.device.maxAllocationBytes) bytes an allocation")
  }

  private init(sliceOf root: Buffer, byteOffset: Int, byteCount: Int) throws(CLError) {
    context = root.context
    self.byteCount = byteCount
    parent = root
    self.byteOffset = byteOffset
    var region = cl_buffer_region(origin: byteOffset, size: byteCount)
    var status: cl_int = 0
    let buffer = clCreateSubBuffer(
      root.handle, cl_mem_flags(CL_MEM_READ_WRITE), cl_buffer_create_type(CL_BUFFER_CREATE_TYPE_REGION), &region,
      &status)
    handle = try created(
      buffer, status, "clCreateSubBuffer",
      detail: "\(byteCount) bytes at offset \(byteOffset) of \(root.byteCount), "
        + "device alignment \(root.context.device.baseAddressAlignmentBytes) bytes")
  }

  /// A view of `byteCount` bytes from `byteOffset`, which must be a multiple of the device's
  /// `baseAddressAlignmentBytes`. A slice of a slice is a slice of the whole: OpenCL nests no sub-buffers.
  public func slice(byteOffset: Int, byteCount: Int) throws(CLError) -> Buffer {
    guard byteOffset >= 0, byteCount > 0, byteCount <= self.byteCount, byteOffset <= self.byteCount - byteCount else {
      throw CLError(
        call: "clCreateSubBuffer", code: CL_INVALID_VALUE,
        detail: "expects at least 1 byte inside \(self.byteCount), got \(byteCount) bytes at offset \(byteOffset)")
    }
    return try Buffer(sliceOf: parent ?? self, byteOffset: self.byteOffset + byteOffset, byteCount: byteCount)
  }

  deinit { clReleaseMemObject(handle) }
}
