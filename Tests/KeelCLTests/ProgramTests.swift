import Testing

@testable import KeelCL

private let source = """
  #ifndef FACTOR
  #define FACTOR 3
  #endif
  kernel void fill(global float *y) { y[get_global_id(0)] = FACTOR * (int)get_global_id(0); }
  kernel void clear(global float *y) { y[get_global_id(0)] = 0; }
  """

@Suite(.serialized) struct ProgramTests {
  let context: Context
  init() throws { context = try Machine.context.get() }

  func run(_ program: Program) throws -> [Float] {
    let queue = try Queue(context: context)
    let buffer = try Buffer(context: context, byteCount: 16)
    let kernel = try program.kernel("fill")
    try kernel.setArgument(0, buffer)
    try queue.enqueue(kernel, global: [4], local: [1])
    return try queue.read(buffer, as: Float.self)
  }

  @Test func optionsReachTheCompiler() throws {
    #expect(try run(Program(context: context, source: source, name: "fill.cl")) == [0, 3, 6, 9])
    #expect(
      try run(Program(context: context, source: source, options: "-DFACTOR=5", name: "fill.cl")) == [0, 5, 10, 15])
  }

  @Test func aBuildErrorHoldsTheLogWithFileAndLine() throws {
    let broken = "kernel void good(global float *y) { y[0] = 1; }\n\nkernel void bad() { int x = undeclared_name; }\n"
    let error = #expect(throws: CLError.self) {
      try Program(context: context, source: broken, options: "-DUNUSED=1", name: "gemm_broken.cl")
    }
    let found = try #require(error)
    #expect(found.call == "clBuildProgram" && found.subject == "gemm_broken.cl")
    #expect(found.codeName == "CL_BUILD_PROGRAM_FAILURE")
    #expect(found.detail.contains("options -DUNUSED=1") && found.detail.contains(context.device.name))
    #expect(found.buildLog?.contains("undeclared_name") == true)
    #expect(found.buildLog?.contains("gemm_broken.cl:3") == true, "\(found.buildLog ?? "")")
    #expect(found.description.contains("undeclared_name"))
  }

  @Test func badOptionsAreNamed() {
    let error = #expect(throws: CLError.self) {
      try Program(context: context, source: source, options: "--no-such-option", name: "fill.cl")
    }
    #expect(error?.description.contains("options --no-such-option") == true)
  }

  @Test func aSourceWithItsOwnLineNumbersKeepsThem() {
    #expect(Program.located("int x;", name: "a\"b\\\n.cl") == "#line 1 \"ab.cl\"\nint x;")
    #expect(Program.located("#line 7 \"x.cl\"\nint x;", name: "a.cl") == "#line 7 \"x.cl\"\nint x;")
  }

  @Test func anUnknownKernelListsTheKernels() throws {
    let program = try Program(context: context, source: source, name: "fill.cl")
    #expect(try Set(program.kernelNames()) == ["fill", "clear"])
    let error = #expect(throws: CLError.self) { try program.kernel("fil") }
    let text = try #require(error).description
    #expect(text.hasPrefix("clCreateKernel fil: CL_INVALID_KERNEL_NAME (-46), fill.cl has "))
    #expect(text.contains("clear") && text.contains("fill"))
  }

  @Test func aBinaryMakesTheSameProgram() throws {
    let options = "-DFACTOR=7"
    let binary = try Program(context: context, source: source, options: options, name: "fill.cl").binary()
    #expect(!binary.isEmpty)
    let again = try Program(context: context, binary: binary, options: options, name: "fill.cl")
    #expect(try run(again) == [0, 7, 14, 21])
  }

  @Test func aBinaryThatIsNoneIsRejected() {
    for bytes in [[], [UInt8](repeating: 0xA5, count: 512), Array("kernel void fill() {}".utf8)] {
      let error = #expect(throws: CLError.self) { try Program(context: context, binary: bytes) }
      #expect(error?.codeName == "CL_INVALID_BINARY")
    }
  }
}
