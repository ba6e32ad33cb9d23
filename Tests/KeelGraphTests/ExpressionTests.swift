import KeelCore
import Testing

@testable import KeelGraph

@Suite struct ExpressionTests {
  /// relu($0·$1 + 2)
  private let expression = Expression(
    inputCount: 2,
    instructions: [
      .init(.multiply, [.input(0), .input(1)]), .init(.add, [.instruction(0), .constant(2)]),
      .init(.relu, [.instruction(1)]),
    ])

  @Test func text() {
    #expect("\(expression)" == "relu(add(multiply($0, $1), 2))")
    #expect("\(Expression(.select))" == "select($0, $1, $2)")
    let half = Expression(inputCount: 1, instructions: [.init(.multiply, [.input(0), .constant(0.5)])])
    #expect("\(half)" == "multiply($0, 0.5)")
    let huge = Expression(inputCount: 1, instructions: [.init(.maximum, [.input(0), .constant(-.infinity)])])
    #expect("\(huge)" == "maximum($0, -inf)")
  }

  @Test func sharedInstructionsDoNotMultiplyTheText() {
    // Each instruction reads the one before it twice: written out as a tree this would be 2⁴⁰ calls.
    var instructions = [Expression.Instruction(.multiply, [.input(0), .input(0)])]
    for index in 0..<40 { instructions.append(.init(.multiply, [.instruction(index), .instruction(index)])) }
    let text = Expression(inputCount: 1, instructions: instructions).description
    #expect(text.count < 4000)
    #expect(text.hasSuffix("multiply(t39, t39)"))
  }

  @Test func traceGivesTheSameAsTheFusedNode() throws {
    let inputs = ["a": [1.0, -2, 3, 4, 5, -6], "b": [1.0, 2, -3]]
    let traced = try interpret(inputs) { expression.trace([$0.input("a", f64(2, 3)), $0.input("b", f64(3))]) }
    #expect(traced == [3, 0, 0, 6, 12, 20])
    let fused = try interpret(inputs) {
      $0.append(.fused(FusedElementwise(expression)), [$0.input("a", f64(2, 3)), $0.input("b", f64(3))])[0]
    }
    #expect(fused == traced)
  }

  @Test func fusedTypeRule() throws {
    let fused = Operation.fused(FusedElementwise(expression))
    #expect(try outputTypes(fused, f32(4, 1), f32(3)) == [f32(4, 3)])
    #expect(refusal(fused, f32(4)) == "[fused] expects 2 operands, got 1")
    #expect(refusal(fused, f32(4), f32(3)) == "[fused] expects shapes that broadcast, got [4] and [3]")
    #expect(
      refusal(fused, i32(3), i32(3)) == "[fused] expects operands of one floating-point type, got [i32[3], i32[3]]")
  }

  @Test func fusedGradientIsThatOfItsDefinition() throws {
    try expectGradients(["a": f64(4, 3), "b": f64(3)], domains: ["b": 0.5...1]) { b, x in
      b.append(.fused(FusedElementwise(expression)), x)[0]
    }
    // An operand that stands there twice gets its cotangent once.
    try expectGradients(["a": f64(4)]) { b, x in
      b.append(.fused(FusedElementwise(Expression(.multiply))), [x[0], x[0]])[0]
    }
  }
}
