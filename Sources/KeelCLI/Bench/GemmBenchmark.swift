import Foundation
import Keel

/// A product of matrices to time.
struct GemmShape: Hashable, Encodable {
  var m: Int
  var n: Int
  var k: Int

  var flops: Double { 2 * Double(m) * Double(n) * Double(k) }
  var text: String { "\(m)×\(n)×\(k)" }

  /// Cubes, and the products of the training steps of 784-32-32-10 and 784-300-100-10 at batches of 32 and 256.
  static let standard: [GemmShape] = [
    (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (32, 32, 784), (784, 32, 32),
    (32, 10, 32), (256, 32, 784), (784, 32, 256), (32, 300, 784), (256, 300, 784), (784, 300, 256), (256, 100, 300),
    (300, 100, 256), (1000, 300, 784),
  ].map { GemmShape(m: $0.0, n: $0.1, k: $0.2) }
}

/// Which operands are stored transposed, as BLAS writes it.
enum Transposition: String, CaseIterable, Encodable {
  case nn = "NN"
  case nt = "NT"
  case tn = "TN"
  case tt = "TT"

  var a: Bool { self == .tn || self == .tt }
  var b: Bool { self == .nt || self == .tt }
}

/// Launches that do nothing, one after another: what none of a device falls below.
struct EmptyLaunch {
  private let launch: CompiledLaunch
  private let context: ComputeContext

  init(_ context: ComputeContext) throws {
    self.context = context
    // A product of one value, of no terms.
    let problem = GemmProblem(m: 1, n: 1, k: 0)
    let buffers = try (0..<3).map { _ in try context.buffer(byteCount: 4) }
    let operands = Operands(outputs: [buffers[0]], inputs: Array(buffers[1...]))
    guard
      let bound = try problem.variant(on: context.profile).bind(problem, operands, context).first
    else { throw CommandError("bench", "expects a launch of a product without terms") }
    launch = try context.compile(bound)
  }

  /// Seconds of one, as the mean of some thousand.
  func seconds() throws -> Double {
    let count = 2000
    return try Timing.seconds {
      for _ in 0..<count { try launch.enqueue(on: context.queue) }
      try context.queue.finish()
    } / Double(count)
  }
}

/// One product on a device: what it is computed with, and its time.
struct GemmBenchmark {
  let shape: GemmShape
  let transposition: Transposition
  let variant: String
  /// More than one where a training step would merge the product with its neighbours.
  let productsPerLaunch: Int
  private let context: ComputeContext
  private let launches: [CompiledLaunch]
  private let product: Buffer

  /// Values of the operands, in [-1, 1).
  let a: [Float]
  let b: [Float]

  /// Products that are merged where they are small.
  private static let merged = 16

  /// - Parameters:
  ///   - forced: the variant's name; nil for the one that the library chooses.
  ///   - merges: small products are merged as in a training step; false gives each launches of its own.
  init(
    _ shape: GemmShape, _ transposition: Transposition, forced: String?, merges: Bool = true,
    on context: ComputeContext
  ) throws {
    self.shape = shape
    self.transposition = transposition
    self.context = context
    let problem = GemmProblem(
      m: shape.m, n: shape.n, k: shape.k, transposeA: transposition.a, transposeB: transposition.b)
    let chosen = try problem.variant(on: context.profile, forced: forced.map { [GemmProblem.family: $0] } ?? [:])
    variant = chosen.name

    a = Self.noise(shape.m * shape.k, stream: 0)
    b = Self.noise(shape.k * shape.n, stream: 1)
    let inputs = try [a, b].map { values in
      let buffer = try context.buffer(byteCount: values.count * 4)
      try context.queue.write(buffer, values)
      return buffer
    }
    product = try context.buffer(byteCount: shape.m * shape.n * 4)
    let workspaceBytes = chosen.workspaceBytes(problem)
    let operands = Operands(
      outputs: [product], inputs: inputs,
      workspace: workspaceBytes > 0 ? try context.buffer(byteCount: workspaceBytes) : nil)
    let bound = try chosen.bind(problem, operands, context)
    let several = Array(repeating: bound, count: merges ? Self.merged : 1).flatMap { $0 }
    let compiled = try context.compile(several, merges: merges)
    let isMerged = compiled.count < several.count
    launches = isMerged ? compiled : Array(compiled.prefix(bound.count))
    productsPerLaunch = isMerged ? Self.merged : 1
  }

  /// Seconds of a product, as the mean of `count` or some more that are given to the queue one after another.
  func seconds(count: Int) throws -> Double {
    let rounds = (count + productsPerLaunch - 1) / productsPerLaunch
    return try Timing.seconds {
      for _ in 0..<rounds {
        for launch in launches { try launch.enqueue(on: context.queue) }
      }
      try context.queue.finish()
    } / Double(rounds * productsPerLaunch)
  }

  /// C as it was computed last.
  func result() throws -> [Float] { try context.queue.read(product, as: Float.self) }

  private static func noise(_ count: Int, stream: UInt64) -> [Float] {
    var generator = Philox(seed: stream)
    return (0..<count).map { _ in Float(Int32(bitPattern: generator.nextWord())) * 0x1p-31 }
  }
}
