import COpenCL
import Testing

@testable import KeelCL

@Suite struct HostMemoryTests {
  /// A copy that failed stays an error until there is another one: what a read left then is of no defined value.
  @Test func aFailedCopyIsNotForgotten() throws {
    let context = try Machine.context.get()
    let queue = try Queue(context: context)
    let memory = HostMemory(byteCount: 16)
    try memory.copy(by: queue, "clSetUserEventStatus") { _, event in
      var status: cl_int = 0
      event = clCreateUserEvent(context.handle, &status)
      return status == CL_SUCCESS ? clSetUserEventStatus(event, CL_OUT_OF_RESOURCES) : status
    }
    for _ in 0..<2 {
      #expect(throws: CLError.self) { try memory.wait() }
      #expect(throws: CLError.self) { try memory.bytes(count: 16) }
    }
    let buffer = try Buffer(context: context, byteCount: 16)
    try queue.write(buffer, [UInt8](1...16))
    try queue.read(buffer, into: memory)
    #expect(try memory.bytes(count: 16) == [UInt8](1...16))
  }
}
