import Foundation
import KeelCL
import KeelCore
import KeelKernels

/// A kernel file with its slots filled: what is written before the text, in order.
public struct ProgramSpec: Hashable, Sendable {
  /// A macro.
  public struct Define: Hashable, Sendable {
    /// Name, with the parameter list of a function-like macro.
    public var name: String
    /// What it stands for.
    public var text: String
  }

  /// Name of the kernel file.
  public var file: String
  /// The program's `REAL`.
  public let dtype: DType
  /// What is written before the text, `REAL` first.
  public private(set) var defines: [Define] = []

  /// The file for elements of `dtype`, its slots as they are by default.
  ///
  /// - Parameters:
  ///   - dtype: what the kernels compute in, the program's `REAL`.
  ///   - stored: the program's `STORED`, what tensors that the file declares as such are stored in; nil for `dtype`.
  public init(_ file: String, _ dtype: DType, stored: DType? = nil) {
    self.file = file
    self.dtype = dtype
    define("REAL", dtype.openCLName)
    if let stored, stored != dtype { define("STORED", stored.openCLName) }
  }

  /// Adds `#define name text`.
  public mutating func define(_ name: String, _ text: String) { defines.append(Define(name: name, text: text)) }
}

/// Builds programs, each once: from memory, from the disk, from source.
///
/// A program has one kernel: drivers compile all that is in a program, used or not, and that is what starting takes.
public final class ProgramLibrary {
  private struct Entry {
    var program: Program
    var isFromDisk: Bool
  }

  private struct KernelOfSpec: Hashable {
    var kernel: String
    var spec: ProgramSpec
  }

  private let context: Context
  private let source: KernelSource
  private let cache: BinaryCache
  private let showsSources: Bool
  /// By the text.
  private var entries: [String: Entry] = [:]
  private var texts: [ProgramSpec: String] = [:]
  private var kernelTexts: [KernelOfSpec: String] = [:]
  /// With the kernel's work in a function; what kinds of arguments it has belongs to the kernel.
  private var apartTexts: [KernelOfSpec: String] = [:]

  init(context: Context, source: KernelSource, cache: BinaryCache, showsSources: Bool) {
    self.context = context
    self.source = source
    self.cache = cache
    self.showsSources = showsSources
  }

  /// How many programs were compiled from source and how many came from the disk.
  public private(set) var compiledCount = 0
  /// See `compiledCount`.
  public private(set) var loadedCount = 0

  /// A kernel of its own, so that arguments set on it stay. Throws the compiler's log when the text is wrong.
  public func kernel(_ name: String, of spec: ProgramSpec) throws -> Kernel {
    try kernel(name, text: text(of: spec, withKernel: name), file: spec.file)
  }

  /// The launch's kernel. PoCL compiles what is in a kernel three times; there it is a function of its own, compiled
  /// once.
  func kernel(of launch: BoundLaunch) throws -> Kernel {
    guard compilesKernelsThrice else { return try kernel(launch.kernel, of: launch.spec) }
    let place = KernelOfSpec(kernel: launch.kernel, spec: launch.spec)
    if let text = apartTexts[place] { return try kernel(launch.kernel, text: text, file: launch.spec.file) }
    let whole = try text(of: launch.spec, withKernel: launch.kernel)
    let text = KernelText.apart(launch, whole) ?? whole
    apartTexts[place] = text
    return try kernel(launch.kernel, text: text, file: launch.spec.file)
  }

  /// The same of a whole text. `file` is its name in the compiler's messages.
  func kernel(_ name: String, text: String, file: String) throws -> Kernel {
    let entry = try entries[text] ?? load(text, file) ?? compile(text, file)
    do {
      return try entry.program.kernel(name)
    } catch {
      // A driver may take a binary and yet make no kernel of it: the entry is as good as damaged, and is replaced, once.
      guard entry.isFromDisk else { throw error }
      return try compile(text, file).program.kernel(name)
    }
  }

  /// No relaxed mathematics: statistics and losses need every digit. OpenCL gives away 2.5 units in the last place of a
  /// quotient and 3 of a root where nobody asks for them.
  ///
  /// No warnings: PoCL prints how many there are wherever it is used. On AVX2 each function that takes a vector of 16
  /// floats is one, since it takes it otherwise than with AVX-512.
  var options: String {
    "-cl-std=CL1.2 -w" + (context.device.hasCorrectlyRoundedDivision ? " -cl-fp32-correctly-rounded-divide-sqrt" : "")
  }

  private var compilesKernelsThrice: Bool {
    context.device.kind == .cpu && context.device.platform.name == "Portable Computing Language"
  }

  private func load(_ text: String, _ file: String) -> Entry? {
    guard let binary = cache.read(key(text)),
      let program = try? Program(context: context, binary: binary, options: options, name: file)
    else { return nil }
    show(text, file)
    loadedCount += 1
    let entry = Entry(program: program, isFromDisk: true)
    entries[text] = entry
    return entry
  }

  /// From source, into memory and onto the disk.
  private func compile(_ text: String, _ file: String) throws -> Entry {
    show(text, file)
    let program = try Program(context: context, source: text, options: options, name: file)
    compiledCount += 1
    if let binary = try? program.binary() { cache.write(key(text), binary) }
    let entry = Entry(program: program, isFromDisk: false)
    entries[text] = entry
    return entry
  }

  private func key(_ text: String) -> String {
    BinaryCache.key(text: text, options: options, device: context.device)
  }

  private func show(_ text: String, _ file: String) {
    if showsSources { FileHandle.standardError.write(Data("// \(file)\n\(text)\n".utf8)) }
  }

  /// The whole file with its slots filled.
  func text(of spec: ProgramSpec) throws -> String {
    if let text = texts[spec] { return text }
    let defines = spec.defines.map { "#define \($0.name) \($0.text)" }.joined(separator: "\n")
    let text = defines + "\n" + (try source.resolved(spec.file)) + "\n"
    texts[spec] = text
    return text
  }

  /// The same with one of its kernels.
  func text(of spec: ProgramSpec, withKernel name: String) throws -> String {
    let place = KernelOfSpec(kernel: name, spec: spec)
    if let text = kernelTexts[place] { return text }
    let text = Self.text(try text(of: spec), withKernel: name)
    kernelTexts[place] = text
    return text
  }

  /// A file's text with one of its kernels: lines of the others are empty, so that messages tell the right ones. All of
  /// the text where it has no such kernel.
  ///
  /// A kernel goes from the line with `__kernel void` to the first line that is a brace.
  static func text(_ text: String, withKernel name: String) -> String {
    var lines: [Substring] = []
    var isLeftOut = false
    var isFound = false
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      // `KEEL_CPU`, `__kernel` or `__attribute__` begins the line.
      if line.utf8.first == UInt8(ascii: "K") || line.utf8.first == UInt8(ascii: "_"),
        let mark = line.firstRange(of: "__kernel void ")
      {
        isLeftOut = line[mark.upperBound...].prefix { $0 != "(" } != name
        isFound = isFound || !isLeftOut
      }
      lines.append(isLeftOut ? "" : line)
      if line == "}" { isLeftOut = false }
    }
    return isFound ? lines.joined(separator: "\n") : text
  }
}
