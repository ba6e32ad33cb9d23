import Foundation
import KeelCore

/// The names of the elementwise table.
public enum ElementwiseName: String, Hashable, Sendable, CaseIterable {
  case copy, negate, absolute, square, squareRoot, reciprocalSquareRoot, reciprocal, exp, log, tanh, sigmoid, relu
  case add, subtract, multiply, divide, maximum, minimum, greater, equal, elu
  case select
}

/// A row of the table: all there is to say about one elementwise function.
public struct ElementwiseRow: Sendable {
  /// The expression in OpenCL C: `$0`, `$1`, `$2` are the operands, `V` their type (scalar or vector), `R(x)` a literal;
  /// `real_exp` and the like are those of `math.clh`.
  public let code: String
  /// The function in double precision.
  public let host: @Sendable ([Double]) -> Double
  /// Cotangents of the operands from operands `x`, result `y` and its cotangent `dy`. Written with `y` where that is
  /// possible: then the operand need not be kept for the backward pass.
  public let derivative: @Sendable (_ x: [Tensor], _ y: Tensor, _ dy: Tensor) -> [Tensor?]
  /// For each operand the interval from which tests draw, away from poles and kinks.
  public let domain: [ClosedRange<Double>]

  public var arity: Int { domain.count }
}

extension ElementwiseName {
  /// The table. A new function is a name above and a row here; tracing, gradients, fusion, kernels and tests follow.
  public var row: ElementwiseRow {
    switch self {
    case .copy:
      unary("$0", { $0 }) { _, _, dy in dy }
    case .negate:
      unary("-$0", { -$0 }) { _, _, dy in -dy }
    case .absolute:
      unary("fabs($0)", { Swift.abs($0) }, 0.1...2) { x, _, dy in
        // The sign of x, 0 at 0.
        (x.elementwise(.greater, 0.0) - (-x).elementwise(.greater, 0.0)) * dy
      }
    case .square:
      unary("$0 * $0", { $0 * $0 }) { x, _, dy in x * dy * 2.0 }
    case .squareRoot:
      unary("sqrt($0)", { $0.squareRoot() }, 0.1...4) { _, y, dy in dy * 0.5 / y }
    case .reciprocalSquareRoot:
      // Not rsqrt(): its error may reach 2 ulp, and on some devices more.
      unary("R(1.0) / sqrt($0)", { 1 / $0.squareRoot() }, 0.1...4) { x, y, dy in dy * y / x * -0.5 }
    case .reciprocal:
      unary("R(1.0) / $0", { 1 / $0 }, 0.2...3) { _, y, dy in -(dy * y * y) }
    case .exp:
      unary("real_exp($0)", { Foundation.exp($0) }) { _, y, dy in dy * y }
    case .log:
      unary("real_log($0)", { Foundation.log($0) }, 0.2...4) { x, _, dy in dy / x }
    case .tanh:
      unary("real_tanh($0)", { Foundation.tanh($0) }) { _, y, dy in dy - dy * y * y }
    case .sigmoid:
      unary("R(1.0) / (R(1.0) + real_exp(-$0))", { 1 / (1 + Foundation.exp(-$0)) }) { _, y, dy in dy * (y - y * y) }
    case .relu:
      // The comparison is written so that NaN goes through.
      unary("($0 < (V)(R(0.0)) ? (V)(R(0.0)) : $0)", { $0 < 0 ? 0 : $0 }, 0.1...2) { _, y, dy in
        y.elementwise(.greater, 0.0).elementwise(.select, dy, 0.0)
      }
    case .add:
      binary("$0 + $1", { $0 + $1 }) { _, _, dy in [dy, dy] }
    case .subtract:
      binary("$0 - $1", { $0 - $1 }) { _, _, dy in [dy, -dy] }
    case .multiply:
      binary("$0 * $1", { $0 * $1 }) { x, _, dy in [dy * x[1], dy * x[0]] }
    case .divide:
      binary("$0 / $1", { $0 / $1 }, second: 0.3...3) { x, y, dy in [dy / x[1], -(dy * y / x[1])] }
    case .maximum:
      binary("($0 > $1 || $0 != $0 ? $0 : $1)", { $0 > $1 || $0.isNaN ? $0 : $1 }, second: 2.1...3) { x, _, dy in
        let first = x[0].elementwise(.greater, x[1])
        return [dy * first, dy - dy * first]
      }
    case .minimum:
      binary("($0 < $1 || $0 != $0 ? $0 : $1)", { $0 < $1 || $0.isNaN ? $0 : $1 }, second: 2.1...3) { x, _, dy in
        let second = x[0].elementwise(.greater, x[1])
        return [dy - dy * second, dy * second]
      }
    case .greater:
      // 1 where $0 > $1, else 0; piecewise constant, so nothing flows back.
      binary("($0 > $1 ? (V)(R(1.0)) : (V)(R(0.0)))", { $0 > $1 ? 1 : 0 }) { _, _, _ in [nil, nil] }
    case .equal:
      binary("($0 == $1 ? (V)(R(1.0)) : (V)(R(0.0)))", { $0 == $1 ? 1 : 0 }) { _, _, _ in [nil, nil] }
    case .elu:
      // Clevert, Unterthiner, Hochreiter 2016. $1 is α; expm1 keeps the digits near 0, and -0 stays what it is.
      ElementwiseRow(
        code: "($0 >= (V)(R(0.0)) ? $0 : $1 * real_expm1($0))",
        host: { $0[0] >= 0 ? $0[0] : $0[1] * Foundation.expm1($0[0]) },
        derivative: { x, y, dy in
          let positive = y.elementwise(.greater, 0.0)
          return [
            positive.elementwise(.select, dy, dy * (y + x[1])),
            positive.elementwise(.select, 0.0, dy * y / x[1]),
          ]
        }, domain: [-2 ... -0.1, 0.5...1.5])
    case .select:
      // $1 where $0 is not 0, else $2; what is not chosen may be NaN or infinite.
      ElementwiseRow(
        code: "($0 != (V)(R(0.0)) ? $1 : $2)", host: { $0[0] != 0 ? $0[1] : $0[2] },
        derivative: { x, _, dy in
          [nil, x[0].elementwise(.select, dy, 0.0), x[0].elementwise(.select, 0.0, dy)]
        }, domain: [0.5...1, -2...2, -2...2])
    }
  }
}

extension ElementwiseName {
  /// Whether the function is one of integers as well, with an integer result.
  var takesIntegers: Bool {
    switch self {
    case .copy, .negate, .square, .add, .subtract, .multiply, .maximum, .minimum: true
    default: false
    }
  }
}

private func unary(
  _ code: String, _ host: @escaping @Sendable (Double) -> Double, _ domain: ClosedRange<Double> = -2...2,
  _ derivative: @escaping @Sendable (_ x: Tensor, _ y: Tensor, _ dy: Tensor) -> Tensor
) -> ElementwiseRow {
  ElementwiseRow(
    code: code, host: { host($0[0]) }, derivative: { [derivative($0[0], $1, $2)] }, domain: [domain])
}

private func binary(
  _ code: String, _ host: @escaping @Sendable (Double, Double) -> Double, second: ClosedRange<Double> = -2...2,
  _ derivative: @escaping @Sendable (_ x: [Tensor], _ y: Tensor, _ dy: Tensor) -> [Tensor?]
) -> ElementwiseRow {
  ElementwiseRow(code: code, host: { host($0[0], $0[1]) }, derivative: derivative, domain: [-2...2, second])
}

/// One function of the table, applied element by element to operands that broadcast.
public struct Elementwise: OperationRules {
  public let function: ElementwiseName

  public init(_ function: ElementwiseName) { self.function = function }

  public var name: String { function.rawValue }
  public var attributes: String { "" }
  public var outputCount: Int { 1 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: function.row.arity)
    guard let dtype = inputs.first?.dtype, inputs.allSatisfy({ $0.dtype == dtype }), dtype != .uint8 else {
      throw GraphError(name, "expects operands of one type, got \(inputs)")
    }
    guard dtype.isFloatingPoint || function.takesIntegers else {
      throw GraphError(name, "expects floating-point operands, got \(inputs)")
    }
    return [TensorType(try broadcastShape(inputs, name), dtype)]
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? {
    guard let dy = context.cotangents[0] else { return context.inputs.map { _ in nil } }
    let gradients = function.row.derivative(context.inputs, context.outputs[0], dy)
    return zip(gradients, context.inputs).map { gradient, input in
      gradient.map { $0.broadcastIfNeeded(to: context.outputs[0].shape).sum(to: input.shape) }
    }
  }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { (0..<function.row.arity).map { (0, $0) } }
}

extension Tensor {
  fileprivate func broadcastIfNeeded(to shape: Shape) -> Tensor { self.shape == shape ? self : broadcast(to: shape) }
}

/// The common shape of operands under NumPy's rule. Throws when there is none.
func broadcastShape(_ inputs: [TensorType], _ name: String) throws(GraphError) -> Shape {
  var shape = Shape.scalar
  for input in inputs {
    guard let wider = shape.broadcast(with: input.shape) else {
      throw GraphError(
        name, "expects shapes that broadcast, got \(inputs.map(\.shape.description).joined(separator: " and "))")
    }
    shape = wider
  }
  return shape
}
