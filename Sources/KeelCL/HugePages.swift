internal import COpenCL
import Foundation

/// Host memory in pages of 2 MiB, where a CPU device keeps a large buffer.
///
/// Rows of a data set are read in random order: with pages of 4 KiB each of them costs a walk through the page tables,
/// in a virtual machine through two sets of them. Linux gives large pages to memory that asks for them.
struct HugePages {
  private static let pageBytes = 2 << 20
  private let memory: UnsafeMutableRawPointer
  private let byteCount: Int

  /// Memory for a buffer of that size; nil where the device has its own, the buffer is smaller than a few pages, or the
  /// system has none to give.
  init?(byteCount: Int, for device: Device) {
    #if os(Linux)
      guard device.kind == .cpu, byteCount >= 2 * Self.pageBytes, byteCount <= device.maxAllocationBytes else {
        return nil
      }
      var memory: UnsafeMutableRawPointer?
      let whole = (byteCount + Self.pageBytes - 1) / Self.pageBytes * Self.pageBytes
      guard posix_memalign(&memory, Self.pageBytes, whole) == 0, let memory else { return nil }
      // A system without large pages refuses, and the memory is as good as any other.
      _ = madvise(memory, whole, MADV_HUGEPAGE)
      self.memory = memory
      self.byteCount = byteCount
    #else
      return nil
    #endif
  }

  /// A buffer that lies in the memory and frees it when the last command that uses it has ended; nil, and the memory
  /// freed, where the driver refuses.
  func buffer(in context: Context) -> cl_mem? {
    var status: cl_int = 0
    let flags = cl_mem_flags(CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR)
    guard let buffer = clCreateBuffer(context.handle, flags, byteCount, memory, &status), status == CL_SUCCESS else {
      free(memory)
      return nil
    }
    guard clSetMemObjectDestructorCallback(buffer, { _, memory in free(memory) }, memory) == CL_SUCCESS else {
      clReleaseMemObject(buffer)
      free(memory)
      return nil
    }
    return buffer
  }
}
