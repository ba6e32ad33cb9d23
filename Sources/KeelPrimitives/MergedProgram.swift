import Foundation
import KeelCL
import KeelCore

extension ComputeContext {
  /// Compiles launches; the order in which they run, and which of them run as one, is that of a ``LaunchSchedule``.
  ///
  /// - Parameter merges: false compiles each by itself, in the order given. So does a device that is no CPU.
  public func compile(_ launches: [BoundLaunch], merges: Bool) throws -> [CompiledLaunch] {
    guard merges, profile.isCPU else { return try launches.map { try compile($0) } }
    return try LaunchSchedule(launches, mayMerge: programs.isMergeable).groups.map { group in
      let parts = group.branches.flatMap { $0 }
      return parts.count == 1 ? try compile(parts[0]) : try compile(merging: group, parts)
    }
  }

  private func compile(merging group: LaunchSchedule.Group, _ parts: [BoundLaunch]) throws -> CompiledLaunch {
    let merged = try MergedProgram(group, programs)
    let kernel = try programs.kernel(MergedProgram.kernel, text: merged.text, file: "merged")
    let numbers = try Buffer(context: context, byteCount: merged.numbers.count * MemoryLayout<Int64>.size)
    try queue.write(numbers, bytes: merged.numbers.withUnsafeBytes { Array($0) })
    for (index, buffer) in ([numbers] + merged.buffers).enumerated() { try kernel.setArgument(index, buffer) }
    return CompiledLaunch(
      label: "\(parts.count) launches in one" + (group.branches.count > 1 ? ", side by side" : ""),
      parts: parts.map(\.label), kernel: kernel, global: [merged.items], local: [1],
      flops: parts.reduce(0) { $0 + $1.flops }, bytes: parts.reduce(0) { $0 + $1.bytes },
      path: group.branches.count > 1 ? parts[0].path : "")
  }
}

/// The text of one kernel that does the work of several launches, and what it is given.
///
/// Sizes, offsets and scalars lie in memory, not in the text: wherever the same launches of a network are small, they have
/// the same program.
struct MergedProgram {
  static let kernel = "merged"

  private(set) var text = ""
  /// Whole buffers: slices are offsets, so that few arguments do.
  private(set) var buffers: [Buffer] = []
  /// What the text takes from `numbers`, the kernel's first argument: extents, offsets and integers as they are, scalars
  /// by their bits.
  private(set) var numbers: [Int64] = []
  /// Work-items: one for a single list of launches, else those of all of them together.
  private(set) var items = 0

  init(_ group: LaunchSchedule.Group, _ library: ProgramLibrary) throws {
    let launches = group.branches.flatMap { $0 }
    var functions: [ProgramSpec: Int] = [:]
    for launch in launches where functions[launch.spec] == nil {
      let number = functions.count
      functions[launch.spec] = number
      text += Self.functions(of: try library.text(of: launch.spec), number)
    }
    var body = ""
    if group.branches.count == 1 {
      items = 1
      for launch in launches { body += inOneItem(launch, functions[launch.spec] ?? 0) }
    } else {
      body = "  size_t item = get_global_id(0);\n"
      for launch in launches { body += besideOthers(launch, functions[launch.spec] ?? 0) }
    }
    let parameters = buffers.indices.map { ", __global uchar* b\($0)" }.joined()
    text += """
      __kernel __attribute__((reqd_work_group_size(1, 1, 1))) void \(Self.kernel)(
          __global const long* numbers\(parameters)) {
      \(body)}

      """
  }

  /// A loop over the launch's items.
  private mutating func inOneItem(_ launch: BoundLaunch, _ function: Int) -> String {
    let extents = launch.extents.map { number($0) }
    return """
        for (size_t z = 0; z < \(extents[2]); z++)
          for (size_t y = 0; y < \(extents[1]); y++)
            for (size_t x = 0; x < \(extents[0]); x++)
              \(call(launch, function, "x", "y", "z"));
        // What one launch wrote under one type the next may read or write under another.
        mem_fence(CLK_GLOBAL_MEM_FENCE);

      """
  }

  /// The next `items` of the kernel's, each with a run of the launch's: with one, where that is written for a work-item a
  /// group.
  private mutating func besideOthers(_ launch: BoundLaunch, _ function: Int) -> String {
    let count = launch.extents.reduce(1, *)
    let share = launch.local == nil ? divideUp(count, Self.shares) : 1
    let shares = divideUp(count, share)
    items += shares
    let (extents, ownItems) = (launch.extents.map { number($0) }, number(shares))
    let (all, run) = (number(count), number(share))
    return """
        if (item < \(ownItems)) {
          const size_t end = min((item + 1) * (size_t)\(run), (size_t)\(all));
          for (size_t i = item * \(run); i < end; i++) {
            const size_t x = i % \(extents[0]), yz = i / \(extents[0]);
            \(call(launch, function, "x", "yz % \(extents[1])", "yz / \(extents[1])"));
          }
          return;
        }
        item -= \(ownItems);

      """
  }

  /// Into how many work-items goes a launch that is written for one an element.
  private static let shares = 16

  private mutating func call(_ launch: BoundLaunch, _ function: Int, _ x: String, _ y: String, _ z: String) -> String {
    let arguments = launch.arguments.map { expression($0, launch.spec.dtype) }
    return "\(launch.kernel)_part\(function)(\(x), \(y), \(z), \(arguments.joined(separator: ", ")))"
  }

  private mutating func number(_ value: Int) -> String { number(Int64(value)) }

  private mutating func number(_ value: Int64) -> String {
    numbers.append(value)
    return "numbers[\(numbers.count - 1)]"
  }

  /// The argument as an expression; a buffer is taken in among the kernel's own.
  private mutating func expression(_ argument: KernelArgument, _ dtype: DType) -> String {
    switch argument {
    case .int(let value): return "(int)" + number(Int64(value))
    case .long(let value): return number(Int64(value))
    case .real(let value) where dtype == .float64:
      return "as_double(\(number(Int64(bitPattern: value.bitPattern))))"
    case .real(let value):
      return "as_float((uint)\(number(Int64(Float(value).bitPattern))))"
    case .buffer(let buffer):
      let whole = buffer.parent ?? buffer
      let index = buffers.firstIndex { $0 === whole } ?? buffers.count
      if index == buffers.count { buffers.append(whole) }
      return "(__global void*)(b\(index) + \(number(Int64(buffer.byteOffset))))"
    }
  }

  /// A program's text with its kernels as functions, whose names end in its number and whose first three arguments are
  /// the indices of the work-item. What it defines is undefined again behind it.
  private static func functions(of text: String, _ number: Int) -> String {
    let kernels = text.replacing(/(?:KEEL_CPU\s+)?__kernel\s+void\s+(\w+)\(/) { match in
      "static void \(match.1)(size_t keel_x, size_t keel_y, size_t keel_z, "
    }
    // Functions at the beginning of a line, those that a macro makes (its first argument), and types.
    let names = Set(
      kernels.matches(
        of: /(?m)^(?:(?:static|KEEL_INLINE)\s[^;={(]*?(\w+)\(|[A-Z][A-Z0-9_]*\(([a-z]\w*),|}\s*(\w+);)/
      ).compactMap { ($0.1 ?? $0.2 ?? $0.3).map { String($0) } })
    // What is there once for all of a program's parts says so in the name of its guard.
    let macros = Set(kernels.matches(of: /(?m)^\s*#\s*define\s+(\w+)/).map { String($0.1) })
      .filter { !$0.hasPrefix("KEEL_ONCE_") }
    return """
      \(names.sorted().map { "#define \($0) \($0)_part\(number)" }.joined(separator: "\n"))
      #define get_global_id(axis) ((axis) == 0 ? keel_x : (axis) == 1 ? keel_y : keel_z)
      \(kernels)
      \((macros.union(names).union(["get_global_id"])).sorted().map { "#undef \($0)" }.joined(separator: "\n"))

      """
  }
}

extension BoundLaunch {
  /// Work-items on three axes.
  fileprivate var extents: [Int] { global + [Int](repeating: 1, count: 3 - global.count) }
}
