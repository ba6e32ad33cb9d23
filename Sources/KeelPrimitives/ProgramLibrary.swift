import Foundation
import KeelCL
import KeelKernels

/// A kernel file with its slots filled: what is written before the text, in order.
public struct ProgramSpec: Hashable, Sendable {
  public struct Define: Hashable, Sendable {
    /// Name, with the parameter list of a function-like macro.
    public var name: String
    public var text: String
  }

  public var file: String
  public var defines: [Define] = []

  public init(_ file: String, real: String) {
    self.file = file
    define("REAL", real)
  }

  public mutating func define(_ name: String, _ text: String) { defines.append(Define(name: name, text: text)) }
}

/// Builds programs, each once: from memory, from the disk, from source.
public final class ProgramLibrary {
  private let context: Context
  private let source: KernelSource
  private let cache: BinaryCache
  private let showsSources: Bool
  private var built: [ProgramSpec: Program] = [:]

  init(context: Context, source: KernelSource, cache: BinaryCache, showsSources: Bool) {
    self.context = context
    self.source = source
    self.cache = cache
    self.showsSources = showsSources
  }

  /// How many programs were compiled from source and how many came from the disk.
  public private(set) var compiledCount = 0
  public private(set) var loadedCount = 0

  /// A kernel of its own, so that arguments set on it stay. Throws the compiler's log when the text is wrong.
  public func kernel(_ name: String, of spec: ProgramSpec) throws -> Kernel {
    try program(spec).kernel(name)
  }

  /// No relaxed mathematics: statistics and losses need every digit.
  static let options = "-cl-std=CL1.2"

  private func program(_ spec: ProgramSpec) throws -> Program {
    if let program = built[spec] { return program }
    let text = try self.text(of: spec)
    if showsSources { FileHandle.standardError.write(Data("// \(spec.file)\n\(text)\n".utf8)) }
    let key = BinaryCache.key(text: text, options: Self.options, device: context.device)
    let program: Program
    if let binary = cache.read(key),
      let loaded = try? Program(context: context, binary: binary, options: Self.options, name: spec.file)
    {
      program = loaded
      loadedCount += 1
    } else {
      program = try Program(context: context, source: text, options: Self.options, name: spec.file)
      compiledCount += 1
      if let binary = try? program.binary() { cache.write(key, binary) }
    }
    built[spec] = program
    return program
  }

  /// The text that the compiler sees.
  func text(of spec: ProgramSpec) throws -> String {
    let defines = spec.defines.map { "#define \($0.name) \($0.text)" }.joined(separator: "\n")
    return defines + "\n" + (try source.resolved(spec.file)) + "\n"
  }
}
