import KeelCore
import KeelGraph
import Testing

/// What the interpreter does with a graph as a whole; each operation's own values stand with that operation.
@Suite struct InterpreterTests {
  @Test func outputsAndUpdatesOfOneRun() throws {
    let builder = GraphBuilder(dtype: .float64)
    let (a, b) = (builder.input("a", f64(2)), builder.input("b", f64(2)))
    builder.output("sum", a + b)
    builder.output("a itself", a)
    // Variables change at the end of a run, so two can be exchanged.
    builder.update(a, with: b)
    builder.update(b, with: a)
    let result = try Interpreter(builder.graph()).run(["a": [1, 2], "b": [10, 20]])
    #expect(result.outputs == ["sum": [11, 22], "a itself": [1, 2]])
    #expect(result.variables == ["a": [10, 20], "b": [1, 2]])
  }

  @Test func broadcastingInEveryPosition() throws {
    let inputs = ["a": [1.0, 2], "b": [10.0, 20, 30]]
    #expect(
      try interpret(inputs) { $0.input("a", f64(2, 1)) + $0.input("b", f64(3)) } == [11, 21, 31, 12, 22, 32])
    #expect(
      try interpret(inputs) { $0.input("b", f64(3, 1, 1)) * $0.input("a", f64(1, 2)) } == [10, 20, 20, 40, 30, 60])
    #expect(try interpret(["a": [1, 2]]) { $0.input("a", f64(2)) - 1.0 } == [0, 1])
  }

  @Test func emptyTensors() throws {
    #expect(try interpret(["a": []]) { ($0.input("a", f64(0, 3)) + 1.0).sum(axes: [0]) } == [0, 0, 0])
    #expect(try interpret(["a": []]) { $0.input("a", f64(0, 3)).transpose([1, 0]).elementwise(.exp) } == [])
  }

  @Test func aGraphThatIsWrongIsRefused() throws {
    var graph = try graph(dtype: .float64) { $0.input("x", f64(2)) * 2.0 }
    graph.nodes[1].types = [f64(3)]
    #expect { try Interpreter(graph) } throws: { "\($0)" == "[constant] %1 expects types [f64[]], has [f64[3]]" }
  }

  @Test func cursorsThatAreNoIntegers() throws {
    // Never a trap, whatever a test feeds in.
    for strange in [Double.nan, .infinity, -.infinity, 1e300] {
      let values = try interpret([
        "data": [1, 2], "order": [strange, strange], "cursor": [strange, strange, strange], "h": [0],
      ]) { b in
        let cursor = b.input("cursor", Cursor.type)
        let row = b.append(
          .gather(Gather(rows: 1, dtype: .float64)), [b.input("data", f64(2)), b.input("order", i32(2)), cursor])[0]
        return b.append(.record(Record(rows: 1)), [b.input("h", f64(1, 1)), cursor, row.sum()])[0]
      }
      #expect(values.count == 1)
    }
  }
}
