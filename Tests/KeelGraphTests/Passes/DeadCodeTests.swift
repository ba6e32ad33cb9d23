import KeelCore
import KeelGraph
import Testing

@Suite struct DeadCodeTests {
  @Test func onlyWhatIsReadStays() throws {
    let builder = GraphBuilder(name: "g")
    let (x, unread) = (builder.input("x", f32(2)), builder.input("unread", f32(2)))
    let kept = x.elementwise(.tanh)
    _ = (unread * kept).sum()
    builder.output("y", kept + 1.0)
    #expect(
      try Pass.deadCode.run(builder.graph()).description == """
        graph g {
          %0 = x{data} : f32[2]
          %1 = tanh(%0) : f32[2]
          %2 = constant{1.0} : f32[]
          %3 = add(%1, %2) : f32[2]
          output y = %3
        }
        """)
  }

  @Test func updatesKeepVariableAndValue() throws {
    let builder = GraphBuilder(name: "g")
    let (x, w) = (builder.input("x", f32(2)), builder.input("w", f32(2), role: .parameter))
    builder.update(w, with: x * x)
    #expect(
      try Pass.deadCode.run(builder.graph()).description == """
        graph g {
          %0 = x{data} : f32[2]
          %1 = w{parameter} : f32[2]
          %2 = multiply(%0, %0) : f32[2]
          update "w" <- %2
        }
        """)
  }

  @Test func oneLiveResultKeepsTheNode() throws {
    let after = try graph { b in
      let c = b.constant(1, [2])
      return b.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 0.5)), [b.input("x", f32(4, 2)), c, c])[3]
    }
    #expect(try Pass.deadCode.run(after) == after)
  }

  @Test func nothingReadLeavesNothing() throws {
    let builder = GraphBuilder(name: "g")
    _ = builder.input("x", f32(2)).elementwise(.exp)
    #expect(try Pass.deadCode.run(builder.graph()).description == "graph g {\n}")
  }
}
