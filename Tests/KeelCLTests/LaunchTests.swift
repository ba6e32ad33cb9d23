import Testing

@testable import KeelCL

private let source = """
  kernel void scale(global float *y, global const float *x, float factor, int n) {
    int i = get_global_id(0);
    if (i < n) y[i] = factor * x[i];
  }
  kernel void offset(global long *y, long by) { y[get_global_id(0)] += by; }
  kernel __attribute__((reqd_work_group_size(4, 1, 1))) void fixed(global float *y) {
    local float scratch[4];
    size_t l = get_local_id(0);
    scratch[l] = y[get_global_id(0)];
    barrier(CLK_LOCAL_MEM_FENCE);
    y[get_global_id(0)] = scratch[3 - l];
  }
  """

@Suite(.serialized) struct LaunchTests {
  let context: Context
  let queue: Queue

  init() throws {
    context = try Machine.context.get()
    queue = try Queue(context: context)
  }

  func program() throws -> Program { try Program(context: context, source: source, name: "launch.cl") }

  @Test(arguments: Machine.devices)
  func runsOnEveryDevice(device: Device) throws {
    let context = try Context(device: device)
    let queue = try Queue(context: context)
    let kernel = try Program(context: context, source: source, name: "launch.cl").kernel("scale")
    let input = (0..<100).map { Float($0) }
    let (x, y) = (try Buffer(context: context, byteCount: 400), try Buffer(context: context, byteCount: 400))
    try queue.write(x, input)
    try queue.fill(y)
    try kernel.setArgument(0, y)
    try kernel.setArgument(1, x)
    try kernel.setArgument(2, Float(2.5))
    try kernel.setArgument(3, Int32(99))
    #expect(try queue.enqueue(kernel, global: [100], local: nil) == nil)
    #expect(try queue.read(y, as: Float.self) == input.dropLast().map { $0 * 2.5 } + [0])
  }

  @Test func localMemoryAndARequiredGroupSize() throws {
    let kernel = try program().kernel("fixed")
    #expect(kernel.requiredWorkGroupSize == [4, 1, 1])
    #expect(kernel.argumentCount == 1)
    let y = try Buffer(context: context, byteCount: 32)
    try queue.write(y, (0..<8).map { Float($0) })
    try kernel.setArgument(0, y)
    try queue.enqueue(kernel, global: [8], local: [4])
    #expect(try queue.read(y, as: Float.self) == [3, 2, 1, 0, 7, 6, 5, 4])

    let error = #expect(throws: CLError.self) { try queue.enqueue(kernel, global: [8], local: [2]) }
    #expect(error?.codeName == "CL_INVALID_WORK_GROUP_SIZE")
    #expect(error?.detail.contains("local 2") == true)
    #expect(error?.detail.contains("kernel requires local 4x1x1") == true)
  }

  @Test func longArguments() throws {
    let y = try Buffer(context: context, byteCount: 24)
    try queue.write(y, [1, 2, 3] as [Int64])
    let kernel = try program().kernel("offset")
    try kernel.setArgument(0, y)
    try kernel.setArgument(1, Int64(1) << 40)
    try queue.enqueue(kernel, global: [3], local: [1])
    #expect(try queue.read(y, as: Int64.self) == [1, 2, 3].map { $0 + (1 << 40) })
  }

  @Test func slicesShareTheMemoryAndKeepItAlive() throws {
    let step = context.device.baseAddressAlignmentBytes
    var whole: Buffer? = try Buffer(context: context, byteCount: 4 * step)
    weak let observed = whole
    let middle = try #require(whole).slice(byteOffset: step, byteCount: 2 * step)
    let last = try middle.slice(byteOffset: step, byteCount: step)
    #expect(last.byteOffset == 2 * step && last.parent === whole)

    try queue.fill(try #require(whole), pattern: [1])
    try queue.fill(middle, pattern: [2])
    try queue.write(last, bytes: [9], offset: step - 1)
    var expected = [UInt8](repeating: 1, count: 4 * step)
    for i in step..<3 * step { expected[i] = 2 }
    expected[3 * step - 1] = 9
    #expect(try queue.read(try #require(whole)) == expected)

    whole = nil
    #expect(observed != nil)
    #expect(try queue.read(last, offset: step - 2) == [2, 9])
  }

  @Test func badSlicesAreRefused() throws {
    let step = context.device.baseAddressAlignmentBytes
    let buffer = try Buffer(context: context, byteCount: 2 * step)
    for (offset, count) in [(0, 0), (-step, step), (step, step + 1), (0, Int.max), (Int.max, 1)] {
      let error = #expect(throws: CLError.self) { try buffer.slice(byteOffset: offset, byteCount: count) }
      #expect(error?.detail.contains("got \(count) bytes at offset \(offset)") == true)
    }
    if step > 1 {
      let error = #expect(throws: CLError.self) { try buffer.slice(byteOffset: step / 2, byteCount: step) }
      #expect(error?.codeName == "CL_MISALIGNED_SUB_BUFFER_OFFSET")
      #expect(error?.detail.contains("device alignment \(step) bytes") == true)
    }
  }

  @Test func sizesThatNoBufferCanHave() throws {
    for count in [0, -1] {
      let error = #expect(throws: CLError.self) { try Buffer(context: context, byteCount: count) }
      #expect(
        error?.description
          == "clCreateBuffer: CL_INVALID_BUFFER_SIZE (-61), expects at least 1 byte, got \(count)")
    }
    let error = #expect(throws: CLError.self) { try Buffer(context: context, byteCount: Int.max) }
    #expect(error?.detail.contains("device limit \(context.device.maxAllocationBytes) bytes") == true)
  }

  @Test func transfersStayInside() throws {
    let buffer = try Buffer(context: context, byteCount: 8)
    let other = try Buffer(context: context, byteCount: 8)
    try queue.write(buffer, bytes: [1, 2, 3, 4, 5, 6, 7, 8])
    try queue.copy(from: buffer, sourceOffset: 1, to: other, destinationOffset: 2, byteCount: 6)
    #expect(try queue.read(other, offset: 2) == [2, 3, 4, 5, 6, 7])
    try queue.fill(other, pattern: [7, 8], offset: 2, byteCount: 4)
    #expect(try queue.read(other, offset: 2, byteCount: 4) == [7, 8, 7, 8])

    // Nothing to move is no error, at the end of the buffer too.
    try queue.write(buffer, bytes: [], offset: 8)
    try queue.copy(from: buffer, to: other, byteCount: 0)
    #expect(try queue.read(buffer, offset: 8) == [])

    #expect(throws: CLError.self) { try queue.write(buffer, bytes: [1, 2], offset: 7) }
    #expect(throws: CLError.self) { try queue.read(buffer, offset: -1, byteCount: 1) }
    #expect(throws: CLError.self) { try queue.read(buffer, offset: Int.min) }
    #expect(throws: CLError.self) { try queue.read(buffer, as: Double.self, count: Int.max) }
    #expect(throws: CLError.self) { try queue.fill(buffer, pattern: [1, 2, 3], byteCount: 3) }
    #expect(throws: CLError.self) { try queue.fill(buffer, offset: 9) }
    let error = #expect(throws: CLError.self) { try queue.copy(from: buffer, sourceOffset: 4, to: other, byteCount: 8) }
    #expect(error?.description.hasSuffix("got 8 bytes at offset 4 of 8") == true)
  }

  @Test(arguments: Machine.devices) func writesInPlace(device: Device) throws {
    let context = try Context(device: device)
    let (queue, other) = (try Queue(context: context), try Queue(context: context))
    let buffer = try Buffer(context: context, byteCount: 64)
    try queue.fill(buffer, pattern: [7])
    try queue.finish()
    let slice = try buffer.slice(byteOffset: 0, byteCount: 48)
    try other.write(slice, offset: 8, byteCount: 16) { bytes in
      for index in 0..<16 { bytes.storeBytes(of: UInt8(index), toByteOffset: index, as: UInt8.self) }
    }
    let expected = [UInt8](repeating: 7, count: 8) + (0..<16) + [UInt8](repeating: 7, count: 40)
    #expect(try queue.read(buffer) == expected)

    struct Failure: Error {}
    #expect(throws: Failure.self) { try other.write(slice, byteCount: 4) { _ in throw Failure() } }
    try other.write(slice, byteCount: 0) { _ in throw Failure() }
    for (offset, count) in [(40, 9), (-1, 4), (0, -1), (0, .max)] {
      let error = #expect(throws: CLError.self) { try other.write(slice, offset: offset, byteCount: count) { _ in } }
      #expect(error?.call == "clEnqueueMapBuffer")
    }
    // The failures have left nothing mapped.
    try queue.fill(buffer, pattern: [1])
    #expect(try queue.read(buffer) == [UInt8](repeating: 1, count: 64))
  }

  @Test func rowsInAnyOrder() {
    var room = [UInt8](repeating: 0, count: 7)
    func copied(_ rows: [Int32], _ rowBytes: Int) -> [UInt8]? {
      room = [UInt8](repeating: 0, count: 7)
      var span = room.mutableSpan
      var bytes = span.mutableBytes
      return bytes.copyRows(rows[...], of: [1, 2, 3, 4, 5, 6, 7], rowBytes: rowBytes) ? room : nil
    }
    #expect(copied([2, 0, 2], 2) == [5, 6, 1, 2, 5, 6, 0])
    #expect(copied([], 2) == [UInt8](repeating: 0, count: 7))
    #expect(copied([6, 0], 1) == [7, 1, 0, 0, 0, 0, 0])
    for (rows, rowBytes) in [([3], 2), ([-1], 2), ([.min], 2), ([0, 0, 0, 0], 2), ([0], 0), ([0], 8)]
      as [([Int32], Int)]
    {
      #expect(copied(rows, rowBytes) == nil)
    }
  }

  @Test func aGroupThatIsTooLargeNamesKernelSizesAndLimit() throws {
    let kernel = try program().kernel("scale")
    let buffer = try Buffer(context: context, byteCount: 16)
    try kernel.setArgument(0, buffer)
    try kernel.setArgument(1, buffer)
    try kernel.setArgument(2, Float(1))
    try kernel.setArgument(3, Int32(0))
    let limit = context.device.maxWorkGroupSize
    let error = #expect(throws: CLError.self) {
      try queue.enqueue(kernel, global: [2 * limit, 2], local: [2 * limit, 2])
    }
    let text = try #require(error).description
    #expect(text.hasPrefix("clEnqueueNDRangeKernel scale: CL_INVALID_WORK_"))
    #expect(text.contains("global \(2 * limit)x2, local \(2 * limit)x2, device limit \(limit)"))

    for global in [[0], [4, -1]] {
      let error = #expect(throws: CLError.self) { try queue.enqueue(kernel, global: global, local: nil) }
      #expect(error?.codeName == "CL_INVALID_GLOBAL_WORK_SIZE")
    }
    for (global, local) in [([4, 4], [4]), ([], []), ([1, 1, 1, 1], [1, 1, 1, 1])] {
      let error = #expect(throws: CLError.self) { try queue.enqueue(kernel, global: global, local: local) }
      #expect(error?.codeName == "CL_INVALID_WORK_DIMENSION")
    }
  }

  @Test func argumentsThatAreMissingOrWrong() throws {
    let kernel = try program().kernel("scale")
    try kernel.setArgument(2, Float(1))
    let missing = #expect(throws: CLError.self) { try queue.enqueue(kernel, global: [1], local: nil) }
    #expect(missing?.codeName == "CL_INVALID_KERNEL_ARGS")
    #expect(missing?.detail.contains("4 arguments expected, not set: [0, 1, 3]") == true)

    let size = #expect(throws: CLError.self) { try kernel.setArgument(3, 1.0) }
    #expect(size?.description == "clSetKernelArg scale: CL_INVALID_ARG_SIZE (-51), argument 3 of 4: Double 1.0")
    for index in [4, -1] {
      let error = #expect(throws: CLError.self) { try kernel.setArgument(index, Int32(1)) }
      #expect(error?.codeName == "CL_INVALID_ARG_INDEX")
    }
  }

  @Test func handlesKeepWhatTheyNeedAndNoMore() throws {
    weak var context: Context?
    weak var program: Program?
    weak var buffer: Buffer?
    var kernel: Kernel?
    do {
      let made = try Context(device: self.context.device)
      context = made
      let compiled = try Program(context: made, source: source, name: "launch.cl")
      program = compiled
      let memory = try Buffer(context: made, byteCount: 64)
      buffer = memory
      kernel = try compiled.kernel("fixed")
      try kernel?.setArgument(0, memory)
    }
    #expect(kernel != nil && context != nil && program != nil && buffer != nil)
    try kernel?.setArgument(0, Buffer(context: try #require(context), byteCount: 64))
    #expect(buffer == nil, "a replaced argument is let go")
    kernel = nil
    #expect(context == nil && program == nil)
  }

  @Test func anEventHasTimesInOrder() throws {
    let queue = try Queue(context: context, profiling: true)
    let buffer = try Buffer(context: context, byteCount: 1 << 16)
    try queue.fill(buffer)
    let kernel = try program().kernel("offset")
    try kernel.setArgument(0, buffer)
    try kernel.setArgument(1, Int64(1))
    let event = try #require(try queue.enqueue(kernel, global: [1 << 13], local: nil, event: true))
    try event.wait()
    let times = [try event.started, try event.ended]
    #expect(times == times.sorted())
    #expect(try event.duration > 0)

    let plain = try #require(try self.queue.enqueue(kernel, global: [1], local: nil, event: true))
    try plain.wait()
    let error = #expect(throws: CLError.self) { try plain.ended }
    #expect(error?.description.contains("CL_PROFILING_INFO_NOT_AVAILABLE (-7), the queue was made without") == true)
  }
}
