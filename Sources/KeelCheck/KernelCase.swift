import KeelCore
import KeelGraph

/// How far a result may be from the reference: `eps` times the machine epsilon of the type times a scale.
///
/// A rounding is off by at most half an epsilon of its result, so a bound counts the roundings between the terms of a
/// result and the result, two an epsilon, and the scale is what these terms come to. Functions are allowed what OpenCL 1.2
/// allows them (section 7.4): 3 ulp for exp and log, 2.5 for a division. Sums of many terms are allowed what
/// ``centredSum(of:)`` and ``positiveSum(depth:)`` say.
public struct Bound: Sendable {
  public enum Scale: Sendable {
    /// The largest finite magnitude of the reference.
    case largest
    /// The magnitude of each element of the reference: a relative error.
    case each
    case fixed(Double)
    /// The magnitude of the terms that an element is made of, as ``KernelCase/terms`` of the case has it: a difference of
    /// large terms is as wrong as these are.
    case terms
  }

  public var eps: Double
  public var scale: Scale

  public init(eps: Double, of scale: Scale = .largest) {
    self.eps = eps
    self.scale = scale
  }

  /// A bound that the contract gives as a number, in single precision.
  public init(single error: Double, of scale: Scale = .largest) {
    self.init(eps: error / Double(Float.ulpOfOne), of: scale)
  }

  /// `eps` of the type that is computed in; in a type of storage also half an epsilon of that for each time that values
  /// are stored.
  static func stored(eps: Double, in dtype: DType, times: Double = 1, of scale: Scale = .largest) -> Bound {
    guard dtype.isStorageOnly else { return Bound(eps: eps, of: scale) }
    return Bound(eps: times / 2 + eps * dtype.arithmetic.epsilon / dtype.epsilon, of: scale)
  }

  /// Not a bit off.
  public static let exact = Bound(eps: 0)

  /// A sum of `count` independent terms around 0, in epsilons of Σ|terms|. At most `block` of them are added one by one;
  /// then the blocks are. nil: there are no blocks.
  ///
  /// The partial sums are random walks: after j terms of deviation σ as far from 0 as σ√j. Each is rounded with a deviation
  /// of ε/√12 of itself (roundings taken as independent, as by Higham and Mary 2019). In and over the blocks B this adds
  /// up to εσ/√12·√(nB/2 + n²/2B), and Σ|terms| is at least 0.63σn for normal numbers and for products of two. Twelve
  /// times this leaves room for walks that stray far. Few terms are bounded by their roundings, one a term.
  public static func centredSum(of count: Int, block: Int? = nil) -> Double {
    let (n, block) = (Double(count), Double(min(block ?? count, count)))
    return min(n / 2, 12 / 12.0.squareRoot() / 0.63 * (block / (2 * n) + 1 / (2 * block)).squareRoot())
  }

  /// A sum of terms of one sign of which each goes through at most `depth` additions, in epsilons of the sum.
  ///
  /// As above, with partial sums that grow evenly: deviations of at most ε/√12·√(depth/3), and six of them.
  public static func positiveSum(depth: Int) -> Double { min(Double(depth) / 2, Double(depth).squareRoot()) }
}

/// One thing that a kernel family must get right: a graph around it, inputs, and how exact the results must be.
///
/// The tests run every case with every variant of its family on every device.
public struct KernelCase: Sendable, CustomStringConvertible {
  /// As in `KernelFamilies`.
  public var family: String
  public var label: String
  /// The floating-point type of the run.
  public var dtype: DType
  public var seed = Self.testSeed
  public var inputs: [CaseInput]
  /// Of every result without one of its own.
  public var bound: Bound
  /// By the name of an output or of an updated variable.
  public var bounds: [String: Bound] = [:]
  /// Outputs that are compared as a sum, taken in double precision: a mean that is kept in two parts.
  public var sums: [String: [String]] = [:]
  /// The whole graph must become launches of the family: what stands around it is fused into it.
  public var isFused = false
  /// Builds the scales of bounds of ``Bound/Scale/terms`` from the same inputs, by the name of an output or of an updated
  /// variable. The interpreter runs them, the device does not.
  public var terms: (@Sendable (CaseTensors) -> [String: Tensor])?
  /// Builds the graph; gives its outputs by name. Updates of variables are recorded on the builder.
  public let build: @Sendable (CaseTensors) -> [String: Tensor]

  public init(
    _ family: String, _ label: String, _ dtype: DType, inputs: [CaseInput], bound: Bound,
    build: @escaping @Sendable (CaseTensors) -> [String: Tensor]
  ) {
    self.family = family
    self.label = label
    self.dtype = dtype
    self.inputs = inputs
    self.bound = bound
    self.build = build
  }

  /// What tells the case from the others of its family.
  public var name: String { "\(label) \(dtype)" }
  public var description: String { "\(family) \(name)" }

  /// The graph of the case. Throws what is wrong with it.
  public func graph() throws(GraphError) -> Graph { try graph(dtype, build) }

  /// The graph of ``terms``, in double precision; nil when there are none.
  func termsGraph() throws(GraphError) -> Graph? {
    guard let terms else { return nil }
    return try graph(.float64, terms)
  }

  private func graph(_ dtype: DType, _ build: (CaseTensors) -> [String: Tensor]) throws(GraphError) -> Graph {
    let builder = GraphBuilder(name: family, mode: .training, dtype: dtype)
    let outputs = build(CaseTensors(builder, inputs))
    for (name, tensor) in outputs.sorted(by: { $0.key < $1.key }) { builder.output(name, tensor) }
    return try builder.graph()
  }

  /// The inputs' values by name.
  public func values() throws -> [String: HostTensor] {
    var values: [String: HostTensor] = [:]
    for (stream, input) in inputs.enumerated() {
      values[input.name] = try input.values(dtype, seed: seed, stream: stream)
    }
    return values
  }

  /// What the bound allows in units of the type's epsilon. In double precision the reference rounds as the device does.
  func eps(_ bound: Bound) -> Double { dtype == .float64 ? 2 * bound.eps : bound.eps }

  /// The inputs that the tests run with.
  public static let testSeed: UInt64 = 1

  var epsilon: Double { dtype.epsilon }
}

extension KernelCase {
  func bounds(_ bounds: [String: Bound]) -> KernelCase {
    var result = self
    result.bounds = bounds
    return result
  }

  func terms(_ terms: @escaping @Sendable (CaseTensors) -> [String: Tensor]) -> KernelCase {
    var result = self
    result.terms = terms
    return result
  }

  func sums(_ sums: [String: [String]]) -> KernelCase {
    var result = self
    result.sums = sums
    return result
  }

  /// All launches must be of the family.
  func fused() -> KernelCase {
    var result = self
    result.isFused = true
    return result
  }
}

extension Tensor {
  var magnitude: Tensor { elementwise(.absolute) }
}
