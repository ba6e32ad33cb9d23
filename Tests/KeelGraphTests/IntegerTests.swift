import KeelCore
import KeelGraph
import Testing

/// What kernels cannot hold is refused when the graph is built.
@Suite struct IntegerTests {
  private func error(_ build: (GraphBuilder, Tensor) -> Void) -> String? {
    let builder = GraphBuilder()
    build(builder, builder.input("n", TensorType([2], .int32)))
    return builder.error.map { "\($0)" }
  }

  @Test func fractionsAreNoIntegers() {
    #expect(error { _, n in _ = n * 1.5 } == "[constant] i32[] expects integers of its range, got 1.5")
    #expect(error { _, n in _ = n * 3e9 } == "[constant] i32[] expects integers of its range, got 3000000000.0")
    #expect(error { _, n in _ = n * 2.0 + n } == nil)
  }

  @Test func functionsOfRealNumbersTakeNoIntegers() {
    #expect(error { _, n in _ = n.elementwise(.exp) } == "[exp] expects floating-point operands, got [i32[2]]")
    #expect(error { _, n in _ = n / n }?.hasPrefix("[divide]") == true)
  }

  @Test func gatherGivesWhatItsKernelCanStore() {
    func gather(_ dtype: DType, _ scale: Double) -> String? {
      error { builder, _ in
        let data = builder.input("data", TensorType([4, 2], .uint8))
        let order = builder.input("order", TensorType([4], .int32), role: .control)
        let cursor = builder.input("cursor", Cursor.type, role: .control)
        _ = builder.append(.gather(Gather(rows: 2, dtype: dtype, scale: scale)), [data, order, cursor])
      }
    }
    #expect(gather(.uint8, 1)?.hasPrefix("[gather] expects a result of f32 or f64") == true)
    #expect(gather(.int32, 2)?.hasPrefix("[gather]") == true)
    #expect(gather(.int32, 1) == nil)
    #expect(gather(.float32, 0.5) == nil)
  }

  /// x / 0 and x / −0 are two values.
  @Test func zerosOfBothSignsStayApart() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", TensorType([1]))
    builder.output("a", x / 0.0)
    builder.output("b", x / -0.0)
    let graph = try Pipeline.standard.run(builder.graph())
    let result = try Interpreter(graph).run(["x": [1]])
    #expect(result.outputs["a"] == [.infinity])
    #expect(result.outputs["b"] == [-.infinity])
  }

  @Test func slopeOfTheAbsoluteValueAtZero() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", TensorType([3]))
    builder.output("dx", builder.gradients(of: x.elementwise(.absolute).sum(), withRespectTo: [x])[0])
    #expect(try Interpreter(builder.graph()).run(["x": [-2, 0, 3]]).outputs["dx"] == [-1, 0, 1])
  }
}

/// Expressions that are no programs are refused, not run.
@Suite struct ExpressionProblemTests {
  private func error(_ expression: Expression) -> String? {
    let builder = GraphBuilder()
    _ = builder.append(.fused(FusedElementwise(expression)), [builder.input("x", TensorType([2]))])
    return builder.error.map { "\($0)" }
  }

  @Test func unsoundExpressions() {
    #expect(error(Expression(inputCount: 1, instructions: []))?.contains("expects an input and an instruction") == true)
    let beyond = Expression(inputCount: 1, instructions: [.init(.relu, [.input(5)])])
    #expect(error(beyond) == "[fused] expects inputs below 1, got 5")
    let later = Expression(inputCount: 1, instructions: [.init(.relu, [.instruction(0)])])
    #expect(error(later) == "[fused] instruction 0 expects earlier ones, got 0")
    let arity = Expression(inputCount: 1, instructions: [.init(.add, [.input(0)])])
    #expect(error(arity) == "[fused] add expects 2 operands, got 1")
    #expect(error(Expression(.relu)) == nil)
  }
}
