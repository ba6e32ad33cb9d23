import Foundation
import KeelCL
import KeelCore
import KeelKernels
import Testing

@testable import KeelPrimitives

@Suite(.serialized) struct ProgramTests {
  /// With its slots as they are by default, every kernel file is a program of its own.
  @Test(arguments: KernelSource.names.filter { $0.hasSuffix(".cl") }, ["float", "double"])
  func fileCompilesAlone(_ name: String, _ real: String) throws {
    let devices = try Device.all()
    #expect(!devices.isEmpty, "no OpenCL device")
    for device in devices {
      if real == "double", !device.hasFP64 {
        print("skipped \(name) in double: \(device.name) has no double precision")
        continue
      }
      let kernels = try strictly(name, ["REAL \(real)"], on: device).kernelNames()
      let stem = name.dropLast(3)
      let family =
        ["sgd", "adam", "affine", "gather", "transpose", "elementwise", "reduce", "softmax", "batchnorm", "gemm"]
        .first { stem.hasPrefix($0) } ?? String(stem)
      #expect(!kernels.isEmpty && kernels.allSatisfy { $0.hasPrefix(family) }, "\(name) has \(kernels)")
    }
  }

  /// So are products whose operands are transposed or packed, with an epilogue.
  @Test(arguments: [
    ("direct", ["TRANSPOSE_A 1", "TRANSPOSE_B 1"]), ("direct", ["PACK_B 1"]),
    ("packed", ["TRANSPOSE_A 1", "TRANSPOSE_B 1"]), ("split", ["TRANSPOSE_A 1", "TRANSPOSE_B 1"]),
  ])
  func productCompilesWithoutWarnings(_ variant: String, _ defines: [String]) throws {
    let epilogue = [
      "EPILOGUE_PARAMETERS", "EPILOGUE_ARGUMENTS", "EPILOGUE(V, LOAD, value, full, row, col) value *= value",
    ]
    for device in try Device.all() where device.kind == .cpu {
      let program = try strictly("gemm_\(variant)_cpu.cl", ["REAL float"] + defines + epilogue, on: device)
      #expect(try program.kernelNames().contains("gemm_\(variant)_cpu"))
    }
  }

  /// A file with macros, where every warning is an error.
  private func strictly(_ name: String, _ defines: [String], on device: Device) throws -> Program {
    // Where a vector is in two registers, clang warns of each function that takes it: another processor's would not
    // take it in the same way. There are none in a program.
    let text =
      "#ifdef __clang__\n#pragma clang diagnostic ignored \"-Wpsabi\"\n#endif\n"
      + defines.map { "#define \($0)\n" }.joined() + (try KernelSource(directory: nil).resolved(name))
    return try Program(
      context: Context(device: device), source: text, options: "-cl-std=CL1.2 -Werror", name: name)
  }

  /// Each kernel of each file is a program by itself, with nothing of the others.
  @Test(arguments: KernelSource.names.filter { $0.hasSuffix(".cl") }) func kernelCompilesWithoutTheOthers(
    _ name: String
  ) throws {
    let context = try ComputeContext(Device.best(), environment: ["KEEL_CACHE_DIR": ""])
    let whole = try Program(
      context: context.context, source: KernelSource(directory: nil).resolved(name), options: "-cl-std=CL1.2",
      name: name)
    for kernel in try whole.kernelNames() {
      let program = try context.programs.kernel(kernel, of: ProgramSpec(name, .float32)).program
      #expect(try program.kernelNames() == [kernel])
    }
  }

  @Test func programIsBuiltOnceForAText() throws {
    let context = try ComputeContext(Device.best(), environment: ["KEEL_CACHE_DIR": ""])
    let spec = ProgramSpec("sgd.cl", .float32)
    let first = try context.programs.kernel("sgd_each", of: spec)
    let second = try context.programs.kernel("sgd_each", of: spec)
    #expect(context.programs.compiledCount == 1)
    #expect(first !== second && first.program === second.program)
    _ = try context.programs.kernel("sgd_blocks", of: spec)
    #expect(context.programs.compiledCount == 2)
    var other = spec
    other.define("NESTEROV", "1")
    _ = try context.programs.kernel("sgd_each", of: other)
    #expect(context.programs.compiledCount == 3)
    #expect(context.programs.loadedCount == 0)
  }

  @Test func textsOfOtherKernelsAreLeftOutAndLinesStay() {
    let text = """
      #define REAL float
      static void help(void) {
      }
      KEEL_CPU __kernel void first(
          __global REAL* p) {
        if (p) {
        }
      }
      #if A
      __kernel void second(__global REAL* p) {
      }
      #endif
      """
    let left = ProgramLibrary.text(text, withKernel: "second")
    #expect(!left.contains("first") && left.contains("help") && left.contains("second"))
    func lines(_ text: String) -> [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
    #expect(lines(left).count == lines(text).count)
    #expect(lines(left)[9] == lines(text)[9])
    #expect(ProgramLibrary.text(text, withKernel: "third") == text)
    #expect(ProgramLibrary.text(text, withKernel: "sec") == text)
  }

  @Test func compilersMessageNamesFileAndLine() throws {
    let context = try ComputeContext(Device.best(), environment: ["KEEL_CACHE_DIR": ""])
    var spec = ProgramSpec("elementwise.cl", .float32)
    spec.define("ELEMENTWISE_PARAMETERS", "__global REAL* o0")
    spec.define("ELEMENTWISE_BODY(V, LOAD, STORE, i)", "STORE(o0, i, nonsense)")
    let error = #expect(throws: CLError.self) { try context.programs.kernel("elementwise_each", of: spec) }
    let text = error.map { "\($0)" } ?? ""
    #expect(text.contains("nonsense") && text.contains("elementwise.cl"), "\(text)")
  }

  @Test func unknownKernelIsNamed() throws {
    let context = try ComputeContext(Device.best(), environment: ["KEEL_CACHE_DIR": ""])
    let error = #expect(throws: CLError.self) {
      try context.programs.kernel("sgd_sideways", of: ProgramSpec("sgd.cl", .float32))
    }
    #expect(error.map { "\($0)" }?.contains("sgd_sideways") == true)
  }

  /// What the folder says is what runs: its kernel doubles where the embedded one copies.
  @Test func kernelsDirectoryIsUsed() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-kernels-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    for name in KernelSource.names {
      var text = try KernelSource(directory: nil).text(name)
      if name == "elementwise.cl" {
        let edited = text.replacingOccurrences(of: "STORE(o0, i, LOAD(a0, i))", with: "STORE(o0, i, 2 * LOAD(a0, i))")
        #expect(edited != text)
        text = edited
      }
      try text.write(to: folder.appendingPathComponent(name), atomically: true, encoding: .utf8)
    }
    func result(_ environment: [String: String]) throws -> [UInt8] {
      let context = try ComputeContext(Device.best(), environment: environment)
      let kernel = try context.programs.kernel("elementwise_each", of: ProgramSpec("elementwise.cl", .int32))
      let (output, input) = (
        try context.buffer(byteCount: 4), try context.buffer(byteCount: 4, filledWith: [1, 0, 0, 0])
      )
      try kernel.setArgument(0, output)
      try kernel.setArgument(1, input)
      try kernel.setArgument(2, Int64(1))
      try kernel.setArgument(3, Int64(1))
      _ = try context.queue.enqueue(kernel, global: [1], local: nil)
      return try context.queue.read(output)
    }
    #expect(try result(["KEEL_CACHE_DIR": ""]) == [1, 0, 0, 0])
    #expect(try result(["KEEL_CACHE_DIR": "", "KEEL_KERNELS_DIR": folder.path]) == [2, 0, 0, 0])
  }
}
