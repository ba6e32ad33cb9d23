import Foundation
import Keel

/// A product of matrices to time.
struct GemmShape: Hashable, Encodable {
  var m: Int
  var n: Int
  var k: Int

  var flops: Double { 2 * Double(m) * Double(n) * Double(k) }
  /// Of float32, of all three matrices.
  var bytes: Double { 4 * (Double(m) * Double(k) + Double(k) * Double(n) + Double(m) * Double(n)) }
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
  private let launches: [CompiledLaunch]
  private let context: ComputeContext

  init(_ context: ComputeContext) throws {
    self.context = context
    let buffers = try (0..<3).map { _ in try context.buffer(byteCount: 4) }
    // A product of one value, of no terms.
    let bound = try context.bind(
      GemmProblem(m: 1, n: 1, k: 0), forced: nil, outputs: [buffers[0]], inputs: Array(buffers[1...]))
    launches = try bound.launches.prefix(1).map { try context.compile($0) }
  }

  /// Seconds of one, as the mean of some thousand.
  func seconds() throws -> Double { try context.seconds(of: launches, count: 2000) }
}

/// One product on a device: what it is computed with, and its time.
struct GemmBenchmark {
  let shape: GemmShape
  let transposition: Transposition
  let variant: String
  private let context: ComputeContext
  /// Of one product.
  private let launches: [CompiledLaunch]
  /// Of ``mergedCount`` products; nil where a training step would not merge them.
  private let mergedLaunches: [CompiledLaunch]?
  private let product: Buffer

  /// Values of the operands, in [-1, 1).
  let a: [Float]
  let b: [Float]

  /// Products that are merged where they are small.
  static let mergedCount = 16

  /// - Parameters:
  ///   - forced: the variant's name; nil for the one that the library chooses.
  ///   - merges: whether small products are also merged, as in a training step.
  init(
    _ shape: GemmShape, _ transposition: Transposition, forced: String?, merges: Bool = true,
    on context: ComputeContext
  ) throws {
    self.shape = shape
    self.transposition = transposition
    self.context = context
    let problem = GemmProblem(
      m: shape.m, n: shape.n, k: shape.k, transposeA: transposition.a, transposeB: transposition.b)
    a = Self.noise(shape.m * shape.k, stream: 0)
    b = Self.noise(shape.k * shape.n, stream: 1)
    let inputs = try [a, b].map { values in
      let buffer = try context.buffer(byteCount: values.count * 4)
      try context.queue.write(buffer, values)
      return buffer
    }
    product = try context.buffer(byteCount: shape.m * shape.n * 4)
    let bound = try context.bind(problem, forced: forced, outputs: [product], inputs: inputs)
    variant = bound.variant
    launches = try bound.launches.map { try context.compile($0) }
    // As a training step binds them: cores that are awake share out shorter work.
    let part = try context.merging.bind(problem, forced: forced, outputs: [product], inputs: inputs)
    let several = Array(repeating: part.launches, count: Self.mergedCount).flatMap { $0 }
    let merged = merges ? try context.compile(several, merges: true) : nil
    mergedLaunches = merged.flatMap { $0.count < several.count ? $0 : nil }
  }

  /// Seconds of a product, as the mean of `count` that are given to the queue one after another, each by itself.
  func seconds(count: Int) throws -> Double { try context.seconds(of: launches, count: count) }

  /// The same of products that are merged, of `count` or some more; nil where a training step would not merge them.
  func mergedSeconds(count: Int) throws -> Double? {
    guard let mergedLaunches else { return nil }
    let rounds = (count + Self.mergedCount - 1) / Self.mergedCount
    return try context.seconds(of: mergedLaunches, count: rounds) / Double(Self.mergedCount)
  }

  /// C as it was computed last.
  func result() throws -> [Float] { try context.queue.read(product, as: Float.self) }

  private static func noise(_ count: Int, stream: UInt64) -> [Float] {
    var generator = Philox(seed: stream)
    return (0..<count).map { _ in Float(Int32(bitPattern: generator.nextWord())) * 0x1p-31 }
  }
}
