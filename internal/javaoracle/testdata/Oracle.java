import com.alibaba.csp.sentinel.AsyncEntry;
import com.alibaba.csp.sentinel.EntryType;
import com.alibaba.csp.sentinel.SphU;
import com.alibaba.csp.sentinel.Tracer;
import com.alibaba.csp.sentinel.context.ContextUtil;
import com.alibaba.csp.sentinel.slots.block.BlockException;
import com.alibaba.csp.sentinel.slots.block.authority.AuthorityRule;
import com.alibaba.csp.sentinel.slots.block.authority.AuthorityRuleManager;
import com.alibaba.csp.sentinel.slots.block.degrade.DegradeRule;
import com.alibaba.csp.sentinel.slots.block.degrade.DegradeRuleManager;
import com.alibaba.csp.sentinel.slots.block.flow.FlowRule;
import com.alibaba.csp.sentinel.slots.block.flow.FlowRuleManager;
import com.alibaba.csp.sentinel.slots.block.flow.param.ParamFlowRule;
import com.alibaba.csp.sentinel.slots.block.flow.param.ParamFlowRuleManager;
import com.alibaba.csp.sentinel.slots.system.SystemRule;
import com.alibaba.csp.sentinel.slots.system.SystemRuleManager;
import com.alibaba.csp.sentinel.util.TimeUtil;
import com.alibaba.fastjson.JSON;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.HashMap;
import java.util.Map;

/**
 * Decides by Java Sentinel what it is told, a line each: rules FAMILY JSON · enter MS ID RESOURCE ORIGIN PARAM · exit MS ID FAILED.
 * The answer to enter is a line: 1, or 0 where it is refused. "-" is no origin.
 */
public class Oracle {
    private static final Map<String, AsyncEntry> open = new HashMap<>();

    public static void main(String[] args) throws Exception {
        PrintStream out = System.out;
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split(" ", 6);
            switch (words[0]) {
                case "rules":
                    load(words[1], line.substring("rules ".length() + words[1].length() + 1));
                    break;
                case "enter":
                    TimeUtil.now = Long.parseLong(words[1]);
                    out.println(enter(words[2], words[3], words[4], words[5]) ? 1 : 0);
                    out.flush();
                    break;
                case "exit":
                    TimeUtil.now = Long.parseLong(words[1]);
                    exit(words[2], words[3].equals("1"));
                    break;
                default:
                    throw new IllegalArgumentException(line);
            }
        }
    }

    private static void load(String family, String json) {
        switch (family) {
            case "flowRules":
                FlowRuleManager.loadRules(JSON.parseArray(json, FlowRule.class));
                break;
            case "degradeRules":
                DegradeRuleManager.loadRules(JSON.parseArray(json, DegradeRule.class));
                break;
            case "paramFlowRules":
                ParamFlowRuleManager.loadRules(JSON.parseArray(json, ParamFlowRule.class));
                break;
            case "systemRules":
                SystemRuleManager.loadRules(JSON.parseArray(json, SystemRule.class));
                break;
            case "authorityRules":
                AuthorityRuleManager.loadRules(JSON.parseArray(json, AuthorityRule.class));
                break;
            default:
                throw new IllegalArgumentException(family);
        }
    }

    private static boolean enter(String id, String resource, String origin, String param) {
        origin = origin.equals("-") ? "" : origin;
        ContextUtil.enter("context of " + origin, origin);
        // Who has to wait sleeps: the clock is the test's, so the sleep ends at once, and the entry has its turn.
        Thread.currentThread().interrupt();
        try {
            open.put(id, SphU.asyncEntry(resource, EntryType.IN, 1, param));
            return true;
        } catch (BlockException e) {
            return false;
        } finally {
            Thread.interrupted();
            ContextUtil.exit();
        }
    }

    private static void exit(String id, boolean failed) {
        AsyncEntry entry = open.remove(id);
        if (failed) {
            Tracer.traceEntry(new RuntimeException("failed"), entry);
        }
        entry.exit();
    }
}
