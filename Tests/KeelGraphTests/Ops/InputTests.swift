import KeelCore
import KeelGraph
import Testing

@Suite struct InputTests {
  @Test func inputTypeRule() throws {
    let input = Operation.input(Input(name: "x", role: .data, type: f32(2, 0)))
    #expect(try outputTypes(input) == [f32(2, 0)])
    #expect(refusal(input, f32(1)) == "[x] expects no operands, got [f32[1]]")
    #expect(refusal { _ = $0.input("x", f32(2, -3)) } == "[x] layer: expects extents of 0 or more, got f32[2, -3]")
    // Two wrongs would make a plausible count.
    #expect(refusal { _ = $0.input("x", f32(-2, -3)) } == "[x] layer: expects extents of 0 or more, got f32[-2, -3]")
  }

  @Test func constantTypeRule() throws {
    #expect(try graph { $0.constant([1, 2, 3], [3]) }.nodes[0].types == [f32(3)])
    #expect(try graph { $0.constant(1, [2, 3]) }.nodes[0].types == [f32(2, 3)])
    #expect(refusal { _ = $0.constant([1, 2], [3]) } == "[constant] layer: f32[3] expects 1 or 3 values, got 2")
    #expect(refusal { _ = $0.constant([], [3]) } == "[constant] layer: f32[3] expects 1 or 3 values, got 0")
    #expect(
      refusal { _ = $0.constant([1, 2], [-1, -2]) } == "[constant] layer: expects extents of 0 or more, got f32[-1, -2]"
    )
  }

  @Test func splats() {
    #expect(Constant(type: f32(4), values: [7]).splat == 7)
    #expect(Constant(type: f32(1), values: [7]).splat == 7)
    #expect(Constant(type: f32(2), values: [7, 7]).splat == nil)
  }

  @Test func constantsRun() throws {
    #expect(try interpret { $0.constant(0.5, [2, 2]) } == [0.5, 0.5, 0.5, 0.5])
    #expect(try interpret { $0.constant([1, 2, 3], [3]) } == [1, 2, 3])
  }

  @Test func missingAndMisshapenInputs() throws {
    let graph = try graph { $0.input("x", f32(2, 3)) }
    #expect { try Interpreter(graph).run([:]) } throws: { "\($0)" == "[interpreter] x expects 6 values, got 0" }
    #expect { try Interpreter(graph).run(["x": [1]]) } throws: { "\($0)" == "[interpreter] x expects 6 values, got 1" }
  }
}
