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
public final class ProgramLibrary {
  private let context: Context
  private let source: KernelSource
  private let cache: BinaryCache
  private let showsSources: Bool
  private var built: [ProgramSpec: Program] = [:]
  private var fromDisk: Set<ProgramSpec> = []
  /// Programs whose text no file has, by the text.
  private var generated: [String: Program] = [:]

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
    let program = try program(spec)
    do {
      return try program.kernel(name)
    } catch {
      // A driver may take a binary and yet make no kernel of it: the entry is as good as damaged, and is replaced, once.
      guard fromDisk.remove(spec) != nil else { throw error }
      return try compile(spec, text(of: spec)).kernel(name)
    }
  }

  /// The same of a text that was put together from others. `file` is its name in the compiler's messages.
  func kernel(_ name: String, text: String, file: String) throws -> Kernel {
    if let program = generated[text] { return try program.kernel(name) }
    if showsSources { FileHandle.standardError.write(Data("// \(file)\n\(text)\n".utf8)) }
    if let binary = cache.read(BinaryCache.key(text: text, options: options, device: context.device)),
      let program = try? Program(context: context, binary: binary, options: options, name: file),
      let kernel = try? program.kernel(name)
    {
      loadedCount += 1
      generated[text] = program
      return kernel
    }
    let program = try build(text, file)
    generated[text] = program
    return try program.kernel(name)
  }

  /// No relaxed mathematics: statistics and losses need every digit. OpenCL gives away 2.5 units in the last place of a
  /// quotient and 3 of a root where nobody asks for them.
  var options: String {
    "-cl-std=CL1.2" + (context.device.hasCorrectlyRoundedDivision ? " -cl-fp32-correctly-rounded-divide-sqrt" : "")
  }

  private func program(_ spec: ProgramSpec) throws -> Program {
    if let program = built[spec] { return program }
    let text = try self.text(of: spec)
    if showsSources { FileHandle.standardError.write(Data("// \(spec.file)\n\(text)\n".utf8)) }
    let key = BinaryCache.key(text: text, options: options, device: context.device)
    guard let binary = cache.read(key),
      let loaded = try? Program(context: context, binary: binary, options: options, name: spec.file)
    else { return try compile(spec, text) }
    loadedCount += 1
    fromDisk.insert(spec)
    built[spec] = loaded
    return loaded
  }

  /// From source, into memory and onto the disk.
  private func compile(_ spec: ProgramSpec, _ text: String) throws -> Program {
    let program = try build(text, spec.file)
    built[spec] = program
    return program
  }

  private func build(_ text: String, _ file: String) throws -> Program {
    let program = try Program(context: context, source: text, options: options, name: file)
    compiledCount += 1
    if let binary = try? program.binary() {
      cache.write(BinaryCache.key(text: text, options: options, device: context.device), binary)
    }
    return program
  }

  /// The text that the compiler sees.
  func text(of spec: ProgramSpec) throws -> String {
    let defines = spec.defines.map { "#define \($0.name) \($0.text)" }.joined(separator: "\n")
    return defines + "\n" + (try source.resolved(spec.file)) + "\n"
  }
}
