internal import COpenCL

/// A compiled program of one device.
// Sendable unchecked: an immutable handle, built in the initializer; OpenCL calls on it are thread-safe.
public final class Program: @unchecked Sendable {
  let handle: cl_program
  /// Where it was built.
  public let context: Context
  /// The name of the source, for errors and compiler messages, e.g. `gemm.cl`.
  public let name: String

  /// Compiles `source`. The compiler's messages speak of `name` and of lines of `source`.
  ///
  /// - Throws: `CLError` with the compiler's log in `buildLog`.
  public init(context: Context, source: String, options: String = "", name: String) throws(CLError) {
    self.context = context
    self.name = name
    handle = try Self.create(context: context, source: Self.located(source, name: name), name: name)
    try build(options)
  }

  /// Takes a program that `binary()` gave, for the same device and driver.
  ///
  /// - Throws: `CLError` when the driver rejects the bytes; the caller compiles the source then.
  public init(context: Context, binary: [UInt8], options: String = "", name: String = "binary") throws(CLError) {
    self.context = context
    self.name = name
    handle = try Self.create(context: context, binary: binary, name: name)
    try build(options)
  }

  deinit { clReleaseProgram(handle) }

  /// A kernel of the program, its arguments not set. Each call makes a new one.
  public func kernel(_ name: String) throws(CLError) -> Kernel {
    var status: cl_int = 0
    let kernel = clCreateKernel(handle, name, &status)
    let handle = try created(
      kernel, status, "clCreateKernel", name,
      detail: "\(self.name) has \((try? kernelNames())?.joined(separator: ", ") ?? "no readable list of kernels")")
    return Kernel(handle, name: name, program: self)
  }

  /// The names of the program's kernels.
  public func kernelNames() throws(CLError) -> [String] {
    try info.string(CL_PROGRAM_KERNEL_NAMES).split(separator: ";").map(String.init)
  }

  /// What the driver needs to make this program again without compiling.
  public func binary() throws(CLError) -> [UInt8] {
    let size = try info.value(CL_PROGRAM_BINARY_SIZES, as: Int.self)
    guard size > 0 else {
      throw CLError(
        call: "clGetProgramInfo", subject: name, code: CL_INVALID_PROGRAM_EXECUTABLE, detail: "the driver has no binary"
      )
    }
    var bytes = [UInt8](repeating: 0, count: size)
    let status = bytes.withUnsafeMutableBufferPointer { storage in
      // One device a context, so one pointer.
      var pointer = storage.baseAddress
      return clGetProgramInfo(
        handle, cl_program_info(CL_PROGRAM_BINARIES), MemoryLayout<UnsafeMutablePointer<UInt8>?>.size, &pointer, nil)
    }
    try check(status, "clGetProgramInfo", name, detail: "binary of \(size) bytes")
    return bytes
  }

  /// What the compiler said, warnings included; empty when it said nothing.
  public var buildLog: String {
    let device = context.device.handle
    let info = Info(call: "clGetProgramBuildInfo", subject: name) { [handle] in
      clGetProgramBuildInfo(handle, device, $0, $1, $2, $3)
    }
    return (try? info.string(CL_PROGRAM_BUILD_LOG)) ?? ""
  }

  private var info: Info {
    Info(call: "clGetProgramInfo", subject: name) { [handle] in clGetProgramInfo(handle, $0, $1, $2, $3) }
  }

  private func build(_ options: String) throws(CLError) {
    var device: cl_device_id? = context.device.handle
    let status = clBuildProgram(handle, 1, &device, options, nil, nil)
    guard status != CL_SUCCESS else { return }
    let log = buildLog
    throw CLError(
      call: "clBuildProgram", subject: name, code: status,
      detail: "on \(context.device.name)" + (options.isEmpty ? "" : ", options \(options)"),
      buildLog: log.isEmpty ? "(the compiler left no log)" : log)
  }

  /// Puts the source's name into the compiler's messages; a source that begins with its own `#line` keeps it.
  static func located(_ source: String, name: String) -> String {
    guard !source.hasPrefix("#line") else { return source }
    let safe = name.filter { $0 != "\"" && $0 != "\\" && !$0.isNewline }
    return "#line 1 \"\(safe)\"\n" + source
  }

  private static func create(context: Context, source: String, name: String) throws(CLError) -> cl_program {
    var status: cl_int = 0
    var text = source
    let program = text.withUTF8 { utf8 in
      utf8.withMemoryRebound(to: CChar.self) { characters in
        var base = characters.baseAddress
        var length = characters.count
        return clCreateProgramWithSource(context.handle, 1, &base, &length, &status)
      }
    }
    return try created(program, status, "clCreateProgramWithSource", name)
  }

  private static func create(context: Context, binary: [UInt8], name: String) throws(CLError) -> cl_program {
    guard !binary.isEmpty else {
      throw CLError(
        call: "clCreateProgramWithBinary", subject: name, code: CL_INVALID_BINARY, detail: "the binary is empty")
    }
    var status: cl_int = 0
    var verdict: cl_int = 0
    let program = binary.withUnsafeBufferPointer { bytes in
      var device: cl_device_id? = context.device.handle
      var base = bytes.baseAddress
      var length = bytes.count
      return clCreateProgramWithBinary(context.handle, 1, &device, &length, &base, &verdict, &status)
    }
    let detail = "\(binary.count) bytes for \(context.device.name), device verdict \(CLError.name(of: verdict))"
    let handle = try created(program, status, "clCreateProgramWithBinary", name, detail: detail)
    guard verdict == CL_SUCCESS else {
      clReleaseProgram(handle)
      throw CLError(call: "clCreateProgramWithBinary", subject: name, code: verdict, detail: detail)
    }
    return handle
  }
}
